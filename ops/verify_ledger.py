#!/usr/bin/env python3
"""Verifies prosector's provenance ledger without prosector. Needs Python 3.8 or later and nothing else.

    verify_ledger.py --export FILE              what `prosector audit export` printed; - for standard input
    verify_ledger.py --sqlite FILE              the embedded database
    verify_ledger.py --postgres URL             a PostgreSQL database, read with psql

    --roots FILE --public-key KEY               signed roots (`prosector audit export --roots`), and the key that they
                                                must be signed with: 64 hexadecimal digits, or a PEM file

Each entry's hash is SHA-256 over the hash of the entry before it (32 zero bytes before the first) and the entry's
columns from seq to detail, each written as its length in bytes, a colon, its text and a comma, or -, where it is null.
A signed root is Ed25519 over the lines "prosector ledger root 1", seq, hash and time of signing.

Names the first bad entry. Exit code 0: sound; 1: not; 2: wrong usage.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sqlite3
import subprocess
import sys

COLUMNS = (
    "seq recorded_at kind reason_code actor study_instance_uid series_instance_uid sop_instance_uid job_id "
    "association_id destination detail"
).split()
HASHES = ["previous_hash", "hash"]


def seal(previous, entry):
    """SHA-256 over the previous hash and the columns of `entry`, a dictionary of texts."""
    digest = hashlib.sha256(previous)
    for column in COLUMNS:
        value = entry[column]
        if value is None:
            digest.update(b"-,")
        else:
            text = str(value).encode()
            digest.update(b"%d:%s," % (len(text), text))
    return digest.digest()


def walk(entries, head, roots):
    """Returns how many entries are sound, and what is wrong with the first bad one.

    `head` is the (seq, hash) that the database says is the end, or None; `roots` a list of such pairs.
    """
    sound, last = 0, bytes(32)
    for entry in entries:
        seq = sound + 1
        if entry["seq"] < 1:
            return sound, f"entry {entry['seq']} is none that the ledger's head knows"
        if entry["seq"] != seq:
            return sound, f"entry {seq} is missing"
        if entry["previous_hash"] != last.hex():
            return sound, f"entry {seq} does not follow the entry before it"
        sealed = seal(last, entry)
        if entry["hash"] != sealed.hex():
            return sound, f"entry {seq} is not what was sealed"
        if any(root[0] == seq and root[1] != sealed.hex() for root in roots):
            return sound, f"entry {seq} is another one than was sealed by the root"
        sound, last = seq, sealed
    promised = max([root[0] for root in roots] + ([head[0]] if head else []), default=0)
    if promised > sound:
        return sound, f"entry {sound + 1} is missing"
    if head and head[0] < sound:
        return sound, f"entry {head[0] + 1} is none that the ledger's head knows"
    if head and head[1] != last.hex():
        return sound, f"entry {sound} is another one than was sealed by the root"
    return sound, None


def from_export(path):
    stream = sys.stdin if path == "-" else open(path, encoding="utf-8")
    return (json.loads(line) for line in stream if line.strip()), None


def from_sqlite(path):
    database = sqlite3.connect(pathlib.Path(path).resolve().as_uri() + "?mode=ro", uri=True)
    database.execute("begin")
    [head] = database.execute("select seq, lower(hex(hash)) from ledger_head where head_id = 1").fetchall()
    hashes = ", ".join(f"lower(hex({name}))" for name in HASHES)
    rows = database.execute(f"select {', '.join(COLUMNS)}, {hashes} from event order by seq")
    return (dict(zip(COLUMNS + HASHES, row)) for row in rows), head


def from_postgres(url):
    texts = {
        "seq": "seq",
        "recorded_at": """to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
        "previous_hash": "encode(previous_hash, 'hex')",
        "hash": "encode(hash, 'hex')",
    }
    pairs = ", ".join(f"'{name}', {texts.get(name, name + '::text')}" for name in COLUMNS + HASHES)
    script = (
        "begin isolation level repeatable read read only;\n"
        "select json_build_array(seq, encode(hash, 'hex')) from ledger_head where head_id = 1;\n"
        f"select json_build_object({pairs}) from event order by seq;\ncommit;\n"
    )
    options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-v", "FETCH_COUNT=5000", "-d", url]
    psql = subprocess.Popen(["psql", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    psql.stdin.write(script)
    psql.stdin.close()
    first = psql.stdout.readline()

    def rows():
        for line in psql.stdout:
            if line.strip():
                yield json.loads(line)
        if psql.wait() != 0:
            sys.exit("psql did not read the ledger to its end")

    if not first:
        sys.exit("psql did not read the ledger")
    return rows(), tuple(json.loads(first))


# Ed25519 (RFC 8032): points of the curve -x² + y² = 1 + d x² y² over the integers modulo P, as fractions (x, y, z).
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(a, b):
    """Sum of two points in projective coordinates, by the complete formula of twisted Edwards curves."""
    z = a[2] * b[2] % P
    zz, xx, yy = z * z % P, a[0] * b[0] % P, a[1] * b[1] % P
    cross = D * xx * yy % P
    minus, plus = (zz - cross) % P, (zz + cross) % P
    x = z * minus * ((a[0] + a[1]) * (b[0] + b[1]) - xx - yy) % P
    return x, z * plus * (yy + xx) % P, minus * plus % P


def times(number, point):
    total = (0, 1, 1)
    for bit in bin(number)[2:]:
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def decode_point(data):
    """The point that 32 bytes stand for, or None."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y, 1


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(public_key, message, signature):
    """Whether `signature` of 64 bytes is that of `message` under the 32 bytes of `public_key`."""
    key, nonce = decode_point(public_key), decode_point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or scalar >= ORDER or len(signature) != 64:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    left, right = times(scalar, BASE), add(nonce, times(challenge, key))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def read_key(text):
    """The 32 bytes of a public key, given as digits or as the path of a PEM file."""
    if len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text):
        return bytes.fromhex(text)
    lines = pathlib.Path(text).read_text().split("-----BEGIN PUBLIC KEY-----")[1].split("-----END")[0]
    return base64.b64decode("".join(lines.split()))[-32:]


def read_roots(path, trusted):
    """The (seq, hash) of every root of a file, or the text of what is wrong with the first bad one."""
    roots = []
    for line in pathlib.Path(path).read_text().splitlines():
        if not line.strip():
            continue
        root = json.loads(line)
        seq = root["seq"]
        message = f"prosector ledger root 1\n{seq}\n{root['hash']}\n{root['signed_at']}\n".encode()
        key = bytes.fromhex(root["public_key"])
        if key not in trusted:
            return [], f"root {seq} is signed with a key that is not trusted"
        if not is_signed(key, message, bytes.fromhex(root["signature"])):
            return [], f"root {seq} is not what was signed"
        roots.append((seq, root["hash"]))
    return roots, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--export", metavar="FILE")
    source.add_argument("--sqlite", metavar="FILE")
    source.add_argument("--postgres", metavar="URL")
    parser.add_argument("--roots", metavar="FILE")
    parser.add_argument("--public-key", metavar="KEY", action="append", default=[])
    arguments = parser.parse_args()

    roots = []
    if arguments.roots:
        if not arguments.public_key:
            parser.error("--roots needs the --public-key that they must be signed with")
        roots, defect = read_roots(arguments.roots, [read_key(key) for key in arguments.public_key])
        if defect:
            print(defect)
            return 1
    if arguments.export:
        entries, head = from_export(arguments.export)
    elif arguments.sqlite:
        entries, head = from_sqlite(arguments.sqlite)
    else:
        entries, head = from_postgres(arguments.postgres)
    sound, defect = walk(entries, head, roots)
    if defect:
        print(f"{sound} entries are sound; {defect}")
        return 1
    print(f"{sound} entries are sound")
    return 0


if __name__ == "__main__":
    sys.exit(main())
