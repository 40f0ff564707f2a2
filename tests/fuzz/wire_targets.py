"""What parties send each other: documents, entries, messages, notes, proofs, seals."""

from contextlib import suppress

import msgspec
from msgspec import structs

from sublet.adapter.seal import JobSeal, SealKey, _Writer, seal_to
from sublet.base import limits
from sublet.base.errors import Broken, SubletError
from sublet.core import merkle
from sublet.core.book import snapshot
from sublet.provider.link import FRAME_BYTES_MAX
from sublet.sdk.connection import read_market
from sublet.sdk.exchange import ask_lease, ask_market, read_answer
from sublet.wire.codec import (
    ENTRY_BYTES_MAX,
    DocumentCodec,
    decode,
    decode_signed,
    encode,
    sign,
)
from sublet.wire.cosignature import (
    AddCheckpoint,
    WitnessKey,
    add_signatures,
    read_cosignature,
    read_request,
    write_request,
)
from sublet.wire.manifest import check_manifest, check_tree, join_own
from sublet.wire.message import (
    Checkpointed,
    Close,
    Deliver,
    Dial,
    Ended,
    Envelope,
    FileEntry,
    Hello,
    JobSays,
    Kept,
    Metered,
    Missing,
    NodeSays,
    Notice,
    Own,
    Paid,
    Progress,
    SealedJob,
    TenantSays,
    Tree,
    Trouble,
    Uploaded,
    Welcome,
)
from sublet.wire.note import NoteKey, read_checkpoint
from sublet.wire.path import find_path_fault
from sublet.wire.request import authorize, check_authorization
from sublet.wire.signature import recover
from sublet.wire.split_view import check_split_view, make_split_view, read_split_view
from tests.fakes.blobs_memory import MemoryBlobs
from tests.fuzz.target import target, text_of
from tests.unit.core.book.test_snapshot import make_world
from tests.unit.wire.test_codec import DOMAIN, KEY, NOW_S, SIGNED
from tests.unit.wire.test_manifest import MANIFEST

DIGEST = "0x" + "cd" * 32
CODEC = DocumentCodec(DOMAIN)


# ---- documents and the log ----------------------------------------------------------


def _make_documents() -> list[bytes]:
    facts = make_world().facts
    found = {type(fact.document): fact.document for fact in facts}
    return [encode(sign(each, key=KEY, domain=DOMAIN)) for each in found.values()]


DOCUMENTS = [encode(SIGNED), *_make_documents()]


def _make_entry(raw: bytes) -> bytes:
    _, id_, signer = decode_signed(raw, domain=DOMAIN)
    entry = {"v": 1, "at_s": NOW_S, "id": id_, "signer": signer}
    head = msgspec.json.encode(entry)[:-1]
    return head + b"," + raw.removeprefix(b'{"v":1,')


ENTRIES = [_make_entry(raw) for raw in DOCUMENTS]
_IDS = {decode_signed(raw, domain=DOMAIN)[1] for raw in DOCUMENTS}


@target("document", seeds=DOCUMENTS)
def _document(raw: bytes) -> None:
    signed, _, _ = decode_signed(raw, domain=DOMAIN)
    assert encode(signed) == raw  # one document, one way to write it


@target("entry", seeds=ENTRIES)
def _entry(raw: bytes) -> None:
    entry = CODEC.verify_entry(raw, market=DOMAIN.market)
    assert CODEC.write_entry(entry) == raw
    assert entry.fact.id in _IDS  # nobody else has our key
    assert len(raw) <= ENTRY_BYTES_MAX


@target("signature", seeds=[bytes.fromhex(SIGNED.signature[2:])])
def _signature(raw: bytes) -> None:
    real = bytes.fromhex(SIGNED.signature[2:])
    digest = decode_signed(encode(SIGNED), domain=DOMAIN)[1]
    assert (recover(digest, raw) == KEY.address) == (raw == real)


@target("snapshot", seeds=[snapshot.dump(make_world().book)], answers=(Broken,))
def _snapshot(raw: bytes) -> None:
    try:
        book = snapshot.load(raw)
    except Broken:  # as it says; whoever fetched it has checked its hash before
        return
    snapshot.dump(book)


# ---- who asks ---------------------------------------------------------------------

_HEADER = authorize(
    key=KEY, domain=DOMAIN, method="GET", path="/v1/a", body=b"", at_s=NOW_S, nonce=7
)


@target("authorization", seeds=[_HEADER], words=["Sublet ", "=", "-_"])
def _authorization(raw: bytes) -> None:
    header = text_of(raw)
    who, nonce = check_authorization(
        header, domain=DOMAIN, method="GET", path="/v1/a", body=b"", now_s=NOW_S
    )
    assert (who, nonce, header) == (KEY.address, 7, _HEADER)


@target("signed_path", seeds=["/v1/a"])
def _signed_path(raw: bytes) -> None:
    check_authorization(
        _HEADER, domain=DOMAIN, method="GET", path=text_of(raw), body=b"", now_s=NOW_S
    )


# ---- messages ---------------------------------------------------------------------

LEASES = tuple(make_world().book.leases.values())
TREE = MANIFEST.inputs
SEALED = structs.replace(
    MANIFEST,
    kind="sealed",
    argv=(),
    env={},
    secrets={},
    sealed=SealedJob("job", (Envelope(KEY.address, b"k" * 80),), b"m" * 90),
)


@target("hello", seeds=[encode(Hello(KEY.address, _HEADER, "a" * 32))])
def _hello(raw: bytes) -> None:
    decode(raw, Hello, size_max=2_048)


@target(
    "node_says",
    seeds=[encode(Welcome(LEASES, 3)), encode(Dial("s", DIGEST))],
)
def _node_says(raw: bytes) -> None:
    decode(raw, NodeSays, size_max=FRAME_BYTES_MAX)


@target(
    "tenant_says",
    seeds=[
        encode(each)
        for each in (
            Deliver(MANIFEST),
            Deliver(SEALED, SIGNED),
            Deliver(MANIFEST, SIGNED, own=Own({"RANK": "1"}, MANIFEST.inputs)),
            Uploaded(),
            Paid(SIGNED, SIGNED),
            Kept(3),
            Close("done"),
            Trouble("a", "b"),
        )
    ],
)
def _tenant_says(raw: bytes) -> None:
    said = decode(raw, TenantSays, size_max=limits.MANIFEST_BYTES_MAX)
    if isinstance(said, Deliver):
        runs = join_own(said.manifest, said.own)
        check_manifest(runs)
        for file in (*runs.inputs.files, *runs.resume.files):
            _check_inside(file.path)


@target(
    "provider_says",
    seeds=[
        encode(each)
        for each in (
            Missing((DIGEST,)),
            Progress("preparing", "installing"),
            Metered(SIGNED, 1, 2),
            Checkpointed(1, 2, TREE),
            Ended(SIGNED, TREE, 1, 2),
            Notice(30),
            Trouble("a", "b"),
        )
    ],
)
def _provider_says(raw: bytes) -> None:
    said = decode(raw, JobSays, size_max=limits.MANIFEST_BYTES_MAX)
    tree = said.tree if isinstance(said, Checkpointed) else None
    tree = said.outputs if isinstance(said, Ended) else tree
    if tree is not None:
        check_tree(tree)
        for file in tree.files:
            _check_inside(file.path)


@target(
    "path",
    seeds=["model/weights.npz", "a", "ä/…"],
    words=["../", "./", "//", "a/", "\u2028"],
)
def _path(raw: bytes) -> None:
    path = text_of(raw)
    if not find_path_fault(path):
        _check_inside(path)


def _check_inside(path: str) -> None:
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert "\0" not in path


@target(
    "answer",
    seeds=[encode(LEASES[0])],
)
def _answer(raw: bytes) -> None:
    with suppress(SubletError):
        read_answer(ask_lease(DIGEST), status=503, body=raw)
    with suppress(SubletError):
        read_market(read_answer(ask_market(), status=200, body=raw))
    read_answer(ask_lease(DIGEST), status=200, body=raw)


# ---- notes ------------------------------------------------------------------------

LOG = NoteKey.generate(b"\x07" * 32, "lab")
WITNESS = WitnessKey.generate(b"\x08" * 32, "witness.example")
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(11)]
ROOTS = [merkle.root_of(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
NOTE = LOG.sign_checkpoint(origin="sublet/ab", size=11, root=ROOTS[11])
COSIGNED = add_signatures(NOTE, [WITNESS.cosign(NOTE, at_s=NOW_S)])
OLDER = LOG.sign_checkpoint(origin="sublet/ab", size=5, root=bytes(32))


@target("note", seeds=[NOTE, COSIGNED], words=["\n\n", "\N{EM DASH} lab "])
def _note(raw: bytes) -> None:
    shown = read_checkpoint(raw, verifier_key=LOG.verifier_key)
    assert (shown.size, shown.root) == (11, ROOTS[11])


@target("cosignature", seeds=[COSIGNED], words=["\n\n", "\N{EM DASH} witness.example "])
def _cosignature(raw: bytes) -> None:
    assert read_cosignature(raw, verifier_key=WITNESS.verifier_key) == NOW_S


@target("cosign_request", seeds=[write_request(AddCheckpoint(5, tuple(LEAVES), NOTE))])
def _cosign_request(raw: bytes) -> None:
    asked = read_request(raw)
    assert all(len(node) == merkle.HASH_BYTES for node in asked.proof)


@target(
    "split_view",
    seeds=[
        make_split_view(
            verifier_key=LOG.verifier_key, first=OLDER, second=NOTE, leaves=LEAVES
        ).to_bytes()
    ],
)
def _split_view(raw: bytes) -> None:
    old, new = check_split_view(read_split_view(raw))
    assert old.root == bytes(32) and new.root == ROOTS[11]


# ---- proofs -----------------------------------------------------------------------


def _write_proof(first: int, second: int, proof: list[bytes]) -> bytes:
    return bytes([first, second]) + b"".join(proof)


@target(
    "inclusion",
    seeds=[
        _write_proof(index, size, merkle.inclusion_proof(LEAVES[:size], index=index))
        for index, size in ((0, 1), (3, 7), (10, 11), (4, 8))
    ],
)
def _inclusion(raw: bytes) -> None:
    index, size, proof = _read_proof(raw)
    size = min(size, 11)
    merkle.verify_inclusion(
        LEAVES[min(index, 10)], index=index, size=size, root=ROOTS[size], proof=proof
    )
    assert proof == merkle.inclusion_proof(LEAVES[:size], index=index)


@target(
    "consistency",
    seeds=[
        _write_proof(old, new, merkle.consistency_proof(LEAVES[:new], old=old))
        for old, new in ((0, 3), (3, 7), (4, 8), (11, 11), (6, 11))
    ],
)
def _consistency(raw: bytes) -> None:
    old, new, proof = _read_proof(raw)
    old, new = min(old, 11), min(new, 11)
    merkle.verify_consistency(
        old=old, new=new, old_root=ROOTS[old], new_root=ROOTS[new], proof=proof
    )
    assert proof == merkle.consistency_proof(LEAVES[:new], old=old)


def _read_proof(raw: bytes) -> tuple[int, int, list[bytes]]:
    first, second = (*raw[:2], 0, 0)[:2]
    return first, second, [raw[at : at + 32] for at in range(2, len(raw), 32)]


@target("frontier", seeds=[bytes(8), (3).to_bytes(8, "big") + bytes(64)])
def _frontier(raw: bytes) -> None:
    assert merkle.Frontier.from_bytes(raw).to_bytes() == raw


# ---- seals ------------------------------------------------------------------------

MACHINE = SealKey.generate()
SEAL = JobSeal(b"\x05" * 32, job="job")


@target("envelope", seeds=[seal_to(MACHINE.line, b"\x05" * 32, about="job")])
def _envelope(raw: bytes) -> None:
    assert MACHINE.open(raw, about="job") == b"\x05" * 32


@target("sealed_manifest", seeds=[SEAL.seal(b"content", kind="manifest")])
def _sealed_manifest(raw: bytes) -> None:
    assert SEAL.open(raw, kind="manifest") == b"content"


@target("seal_line", seeds=[MACHINE.line])
def _seal_line(raw: bytes) -> None:
    seal_to(text_of(raw), b"secret", about="job")


def _make_sealed_folder() -> bytes:
    source = MemoryBlobs()
    file = FileEntry("a", 5, 0o644, (source.put(b"hello"),))
    listed = msgspec.json.encode(Tree((file, structs.replace(file, path="b"))))
    return len(listed).to_bytes(8, "big") + listed + b"\0\0\0\5hello"


@target("sealed_folder", seeds=[_make_sealed_folder()], words=[bytes(8)])
def _sealed_folder(raw: bytes) -> None:
    """What a tenant who holds the key may have sealed, whatever it is."""
    writer = _Writer(MemoryBlobs())
    for at in range(0, len(raw), 100):
        writer.take(raw[at : at + 100])
    writer.finish()


@target("sealed_chunks", seeds=[b"hello"])
def _sealed_chunks(raw: bytes) -> None:
    """What whoever keeps the chunks may have put in their place."""
    blobs = MemoryBlobs()
    file = FileEntry("sealed", len(raw), 0o644, (blobs.put(raw),))
    SEAL.open_tree(Tree((file,)), kind="tree", source=blobs, into=MemoryBlobs())
    raise AssertionError("bytes that nobody sealed were opened")
