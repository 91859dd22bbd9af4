#!/bin/sh
# Make a virtual environment with a Python >= 3.12 that has a shared libpython, or say in one sentence what is missing.
set -eu
venv=$1
command -v c++ >/dev/null 2>&1 || { echo "A C++ compiler is needed to build the VapourSynth plugin: install g++ or clang (Debian: apt install g++)." >&2; exit 1; }
good='import sys, sysconfig; sys.exit(0 if sys.version_info >= (3, 12) and sysconfig.get_config_var("Py_ENABLE_SHARED") else 3 if sys.version_info >= (3, 12) else 2)'
static=
for python in ${PYTHON:-} python3.12 python3.13 python3.14 python3 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python /opt/python*/bin/python3 /usr/local/bin/python3; do
  command -v "$python" >/dev/null 2>&1 || continue
  status=0
  "$python" -c "$good" >/dev/null 2>&1 || status=$?
  if [ "$status" -eq 0 ] && "$python" -c "import venv, ensurepip" >/dev/null 2>&1; then
    echo "using $("$python" --version 2>&1)"
    "$python" -m venv "$venv"
    exit 0
  fi
  [ "$status" -eq 3 ] && static=$python
done
if [ -n "$static" ]; then
  echo "$static has no shared libpython, which vspipe needs: install one built with --enable-shared (Debian's and uv's have it), or name it with PYTHON=/path/to/python make install." >&2
else
  echo "Python 3.12 or newer with venv is needed and none was found: install it (for example 'uv python install 3.12' or 'pyenv install 3.12'), or name it with PYTHON=/path/to/python make install." >&2
fi
exit 1
