# SPDX-License-Identifier: Apache-2.0
"""The importer: a child that reads a bundle from a passed descriptor and writes what is proven into staging, and nowhere else.

Duty: one pass, in the order of proof: magic, trust chain, threshold, decode, device, revoked or blocked, floor, space; only then
tree and objects. Runs under its own uid without network. It links nothing, renames nothing, and knows no state.
Invariants: at most one 256 KiB step of content in memory; every step is relative to a folder descriptor and follows no link;
the first fault ends it with part and object named and nothing but staging touched; after a fault of the bundle nothing is left
but objects that are proven.

Request (see guard.child):
  "staging"  str   folder of staging, owned by the store's uid, where this uid may make <id>/      (staging/)
  "store"    str   folder of the store, for bases of patches and contents already held; "" = none
  "trust"    bytes newest trust envelope that the guard holds
  "device"   [str] classes of this device
  "apps"     [str] apps that the device's config names; an image of another app is refused (NO_SUCH_APP)
  "floors"   {app: [epoch, counter]}        the floor of each app's state record
  "blocked"  [bytes32]                      blocked image ids and (tree, run) digests
  "interpreters" [str]                      absolute programs of the host that an image may start
  "quota"    int   bytes that an image may have at most (0: 8 GiB)
  "shared_keys" bool  one key may stand in two roles (default false)
  "only"     bytes32 or absent               refuse another image id than this (a warrant named it)
Descriptor 3: the bundle, read once from its present place (a file, a pipe, a socket).

Progress: step 0 proof, 1 objects (bytes made of bytes in all).
Done: {"reason": 0, "id": bytes32, "app": str, "version": str, "security": int, "bytes": int (whole tree), "written": int, "reused": int,
       "held": int (objects that the store holds), "trust": n of the newest trust in the bundle or held, "new_trust": bool}
Error: reason, part ("magic", "trust", "envelope", "manifest", "index", "tree", "object", "payload", "space"), object, hint.
  For MISSING_OBJECT the record's "object" is the first one that neither bundle nor store has.

Leaves staging/<id hex>/{manifest, tree, objects/<n>, trust (only when the bundle brought newer versions: those envelopes, oldest first)},
folders 0700, files 0600. A retry hashes what is there and writes only the rest.
"""
