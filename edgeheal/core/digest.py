# SPDX-License-Identifier: Apache-2.0
"""SHA-256 and BLAKE2b of small things, by the interpreter's own C code.

Duty: name them. Why not `hashlib`: it prepares every digest that OpenSSL has, 2 MB in a process that is resident for years. Who hashes
megabytes (importer, verifier) uses `hashlib`, which is faster there. Invariant: the digests are the same.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
else:
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    try:
        from _sha2 import sha256  # 3.12 and newer
    except ImportError:
        try:
            from _sha256 import sha256  # 3.11
        except ImportError:
            from hashlib import sha256

__all__ = ["blake2b", "sha256"]
