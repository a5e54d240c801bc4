#!/usr/bin/env bash
# Makes the certificates of the tests: an authority, and what a server may show. Good until 2120, but one.
set -euo pipefail
cd "$(dirname "$0")"
here="$PWD"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
touch index.txt
cat > ca.cnf <<'END'
[ca]
default_ca = tests
[tests]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END

make() { # name, start, end, extensions, then how it is signed
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  openssl ca -batch -notext -config ca.cnf -startdate "$2" -enddate "$3" -extfile <(printf '%b' "$4") \
    -in "$1.csr" -out "$1.pem" "${@:5}"
}

signed=(-cert ca.pem -keyfile ca.key)
make ca 20200101000000Z 21200101000000Z \
  'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n' -selfsign -keyfile ca.key
make good 20200101000000Z 21200101000000Z 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' "${signed[@]}"
make wrong-host 20200101000000Z 21200101000000Z 'subjectAltName=DNS:other.example.com\n' "${signed[@]}"
make expired 20000101000000Z 20010101000000Z 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' "${signed[@]}"

cp ca.pem "$here"
for name in good wrong-host expired; do cat "$name.key" "$name.pem" > "$here/$name.pem"; done
