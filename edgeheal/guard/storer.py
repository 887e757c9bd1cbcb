# SPDX-License-Identifier: Apache-2.0
"""The storing child: under the store's uid, without a decompressor, reads staging again and makes an installed tree of it.

Duty: build files/ out of proven objects and hard links, set modes and time tags, one checked syncfs, re-read uncached, rename into the store.
It judges no signature (the verifier does that) and inflates nothing.
Invariants: nothing follows a link; a content that is not what the manifest's tree says is never renamed into the store; an
empty file is never hard-linked; it may be run again after a cut at any point.

Request (see guard.child):
  "mode"     "store" | "clean" | "spare" | "adopt"
  "staging"  str   folder of staging           "store" str  folder of the store
  "app"      str                                "id" bytes32
  "trees"    [bytes32] or absent                installed images of the app that may be linked from (absent: all there)
No descriptor is passed.

store: staging/<id>/ (already handed over to this uid) becomes store/<app>/<id>/{manifest,tree,files/}.
       Progress: steps 2 move, 3 sync, 4 re-read. Done: {"bytes","files","linked","reread"}.
       Error ALREADY when store/<app>/<id> stands; MISSING_OBJECT, BAD_OBJECT (content), BAD_TREE, BAD_MANIFEST, NO_SPACE, UNREADABLE.
clean: removes staging/<id> or store/<app>/trash/<id> (whichever are there), component by component. Done: {"removed": entries}.
spare: writes store/spare/<app>.ehi, a full bundle of the installed tree <id>, by temp, fsync, rename, fsync. Done: {"bytes"}.
       "trust" bytes (consecutive trust envelopes to put in front), optional.
adopt: makes folders the store needs (store/, store/<app>/, store/spare/). Done: {}.
"""
