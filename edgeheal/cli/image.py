# SPDX-License-Identifier: Apache-2.0
"""`edgeheal image`: build, sign, verify, inspect a bundle, on any machine; the verbs that speak to a device come from cli.device.

Duty: arguments, files and screens around image and trust. Invariants: a bundle is replaced as a whole or not at all; `verify` says
exactly what a device would say (exit 6 for trust, 4 for the device's own word), `inspect` judges nothing.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeheal.cli import common, device_image, files
from edgeheal.core import reasons
from edgeheal.core.errors import ImageError, TrustError, UsageError

if TYPE_CHECKING:
    from edgeheal.trust.document import Trust
    from edgeheal.trust.envelope import Envelope

_EXAMPLES = """examples:
  edgeheal image build ./app --key release.key -o app.ehi
  edgeheal image sign app.ehi --key second.key
  edgeheal image verify app.ehi --trust 00001.eht
  edgeheal image inspect app.ehi --files
  edgeheal image install app.ehi
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `image` with its verbs."""
    parser = subparsers.add_parser("image", help="app images", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="image_verb", metavar="VERB", required=True)
    build = verbs.add_parser("build", help="make a bundle of a folder with image.toml and files/")
    build.add_argument("place", metavar="DIR", help="the folder, or its image.toml")
    build.add_argument("-o", "--output", metavar="FILE", help="the bundle (default: APP-VERSION.ehi)")
    build.add_argument("--key", action="append", default=[], metavar="FILE", help="sign it with this private key (may be said again)")
    build.add_argument("--password-file", metavar="FILE", help="password of encrypted keys")
    build.add_argument("--trust", action="append", default=[], metavar="EHT", help="put this trust chain in front (for devices that were off)")
    build.add_argument("--codec", choices=("stored", "deflate", "lzma2"), default="deflate", help="how contents are squeezed (default: deflate)")
    build.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave out what matches, by name or path")
    build.add_argument("--set-version", metavar="TEXT", help="the version, instead of the one in image.toml")
    common.options(build, root=False)
    build.set_defaults(run=run_build)
    sign = verbs.add_parser("sign", help="add a signature")
    sign.add_argument("file", metavar="BUNDLE")
    sign.add_argument("--key", action="append", required=True, metavar="FILE", help="a private release key (may be said again)")
    sign.add_argument("--password-file", metavar="FILE", help="password of encrypted keys")
    sign.add_argument("--trust", action="append", default=[], metavar="EHT", help="put this trust chain in front")
    sign.add_argument("-o", "--output", metavar="FILE", help="write here instead of in place")
    common.options(sign, root=False)
    sign.set_defaults(run=run_sign)
    verify = verbs.add_parser("verify", help="would a device take it? signatures, trust chain, every content")
    verify.add_argument("file", metavar="BUNDLE")
    verify.add_argument("--trust", metavar="EHT", help="the trust to start from (default: this device's)")
    verify.add_argument("--device", action="append", default=[], metavar="CLASS", help="judge for this device class, too (may be said again)")
    common.options(verify)
    verify.set_defaults(run=run_verify)
    inspect = verbs.add_parser("inspect", help="what is in it; judges nothing")
    inspect.add_argument("file", metavar="BUNDLE")
    inspect.add_argument("--files", action="store_true", help="list the files, too")
    common.options(inspect, root=False)
    inspect.set_defaults(run=run_inspect)
    device_image.add(verbs)


def run_build(args: argparse.Namespace) -> int:
    """`image build`."""
    from edgeheal.cli import image_build
    from edgeheal.image import codec
    from edgeheal.trust.envelope import MANIFEST, Envelope

    toml, folder = image_build.find(args.place)
    try:
        text = files.read(toml, 1024 * 1024).decode()
    except UnicodeDecodeError:
        raise ImageError("is not UTF-8", reason=reasons.BAD_MANIFEST, place=toml, hint="save it as UTF-8 text") from None
    planned = image_build.plan(toml, folder, text, tuple(args.exclude), version=args.set_version)
    envelope = _signed(Envelope(MANIFEST, planned.manifest.body()), args)
    output = args.output or f"{planned.manifest.app}-{_file_name(planned.manifest.version)}.ehi"
    pieces = image_build.bundle_of(planned, envelope, _chain(args.trust), codec.NAMES.index(args.codec), _progress("packing"))
    size = files.write(output, pieces)
    said = planned.manifest
    if args.json:
        common.put_json({
            "file": output, "bytes": size, "id": envelope.id, "app": said.app, "version": said.version, "security_counter": said.security_counter,
            "files": len(planned.rows), "total_bytes": said.tree.total_bytes, "signed_by": [key for key, _ in envelope.signatures],
        })  # fmt: skip
        return 0
    common.put(f"{said.app} {said.version}  {envelope.id.hex()}  {len(planned.rows)} files  {_bytes(said.tree.total_bytes)} -> {output} {_bytes(size)}")
    if not envelope.signatures:
        common.say(f"not signed yet; next: edgeheal image sign {output} --key RELEASE-KEY")
    else:
        common.say(f"next: edgeheal image install {output}")
    return 0


def run_sign(args: argparse.Namespace) -> int:
    """`image sign`."""
    from edgeheal.image import bundle
    from edgeheal.image.codec import STEP
    from edgeheal.trust.envelope import MANIFEST, decode, encode

    with _open(args.file) as file:
        from edgeheal.image.reader import BundleReader

        reader = BundleReader(file.read)
        trust, raw = reader.start()
        head = bundle.decode_head(_head_again(file))
        signed = _signed(decode(raw, MANIFEST), args)
        trust = _chain(args.trust) or trust
        new = encode(signed)
        file.seek(bundle.HEAD_BYTES + head.trust + head.envelope)

        def pieces() -> Iterator[bytes]:
            yield bundle.encode_head(bundle.Head(len(trust), len(new), head.index)) + trust + new
            while piece := file.read(STEP):
                yield piece

        files.write(args.output or args.file, pieces())
    if args.json:
        common.put_json({"file": args.output or args.file, "id": signed.id, "signed_by": [key for key, _ in signed.signatures]})
    else:
        common.put(f"{signed.id.hex()}  {len(signed.signatures)} signature{'s' if len(signed.signatures) != 1 else ''}: {_keys(signed)}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`image verify`."""
    from edgeheal.cli import image_check

    first = _trust_start(args)
    with _open(args.file) as file:
        done = image_check.verify(file, first, tuple(args.device), _progress("verifying"), shared_keys=True)
    if args.json:
        common.put_json({"ok": True} | done)
        return 0
    common.put(f"{done['app']} {done['version']}  {done['id'].hex()}  ok under trust version {done['trust']}")
    held = f", {done['held']} contents come from the device's store" if done["held"] else ""
    common.put(f"  signed by {done['signatures']} key{'s' if done['signatures'] != 1 else ''}; {done['objects']} contents, {_bytes(done['bytes'])}{held}")
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """`image inspect`."""
    from edgeheal.cli import image_check

    with _open(args.file) as file:
        shown = image_check.inspect(file, with_files=args.files)
    if args.json:
        common.put_json(shown)
        return 0
    said = shown["manifest"]
    common.put(f"{said['app']} {said['version']}  security counter {said['security_counter']}  for {', '.join(said['device'])}")
    common.put(f"id       {shown['id'].hex()}")
    common.put(f"signed   {'  '.join(key.hex()[:16] for key in shown['signed_by']) or 'by nobody'} (not judged here)")
    common.put(f"contents {shown['objects']} of which {shown['carried']} are in this bundle, {_bytes(said['tree'][3])} in {said['tree'][2]} files")
    common.put(f"runs     {_words(said['run']['argv'])}")
    for probe in said.get("probes", []):
        target = probe.get("target", "")
        common.put(f"probe    {probe['name']} ({probe['means']}): {probe['kind']} {_words(target) if isinstance(target, list) else target}")
    for row in shown.get("files", []):
        common.put(f"  {row['mode']}  {row['size']:>10}  {row['path']}")
    return 0


def _trust_start(args: argparse.Namespace) -> "Trust":
    from edgeheal.trust import chain, envelope
    from edgeheal.trust.verify import signers

    places = [args.trust] if args.trust else _device_trust(common.layout(args).vendor_trust, common.layout(args).trust)
    data = b"".join(files.read(place, envelope.MAX_CHAIN) for place in places)
    links = envelope.decode_chain(data, most_bytes=len(data))
    if not links:
        raise TrustError("holds no trust document", place=places[0])
    first = chain.first(links[0], signers, shared_keys=True)
    more = chain.walk(first.trust, links[1:], signers, shared_keys=True)
    return more[-1].trust if more else first.trust


def _device_trust(*folders: str) -> list[str]:
    found: list[str] = []
    for folder in folders:
        try:
            found += [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".eht")]
        except OSError:
            continue
    if not found:
        raise TrustError("no trust document on this machine", place=folders[0], hint="name one: --trust 00001.eht")
    return found


def _signed(envelope: "Envelope", args: argparse.Namespace) -> "Envelope":
    from edgeheal.cli.key import password
    from edgeheal.trust import sign

    secret = password(args.password_file) if args.key else None
    for path in args.key:
        envelope = sign.load(files.read(path, 16_384), secret, place=path).sign(envelope)
    return envelope


def _chain(places: list[str]) -> bytes:
    from edgeheal.trust import envelope

    data = b"".join(files.read(place, envelope.MAX_CHAIN) for place in places)
    envelope.decode_chain(data)
    return data


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as fault:
        raise UsageError(fault.strerror or str(fault), place=path, hint="name a bundle (.ehi)") from None


def _head_again(file: BinaryIO) -> bytes:
    from edgeheal.image import bundle

    try:
        file.seek(0)
    except OSError:
        raise UsageError("cannot be read twice", hint="name a file, not a pipe") from None
    return file.read(bundle.HEAD_BYTES)


def _progress(what: str) -> Any:
    """A line that follows on a terminal; silent elsewhere."""
    shown = -1

    def tell(done: int, total: int) -> None:
        nonlocal shown
        percent = done * 100 // total if total else 100
        if percent != shown and sys.stderr.isatty():
            shown = percent
            sys.stderr.write(f"\r{what} {percent:3} %" if done < total else "\r\033[K")
            sys.stderr.flush()

    return tell


def _bytes(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.1f} GB"


def _words(argv: list[str]) -> str:
    return " ".join(argv).encode("unicode_escape").decode()


def _keys(envelope: "Envelope") -> str:
    return "  ".join(key.hex()[:16] for key, _ in envelope.signatures)


def _file_name(version: str) -> str:
    return "".join(c if c.isalnum() or c in "._+-" else "_" for c in version)
