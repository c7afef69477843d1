#!/bin/sh
# Makes the system's tables at the first start, whole or not at all, and becomes the server.
set -eu
data=/var/lib/mysql
if [ ! -d "$data/mysql" ]; then
  rm -rf "$data/.new"
  mariadb-install-db --no-defaults --datadir="$data/.new" --auth-root-authentication-method=normal --skip-test-db \
    --skip-name-resolve
  # What says that all is there comes last.
  find "$data/.new" -mindepth 1 -maxdepth 1 ! -name mysql -exec mv -t "$data" {} +
  mv "$data/.new/mysql" "$data/mysql"
  rm -rf "$data/.new"
fi
exec mariadbd "$@"
