# SPDX-License-Identifier: Apache-2.0
"""SHA-256 and BLAKE2b of small things, by the interpreter's own C code.

Duty: name them. Why not `hashlib`: it prepares every digest that OpenSSL has, 3 MB in a process that is resident for years. Who hashes
megabytes (importer, verifier) uses `hashlib`, which is faster there. The digests are the same.
"""

try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]  # 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]  # 3.11
    except ImportError:
        from hashlib import sha256

try:
    from _blake2 import blake2b  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b", "sha256"]
