#!/usr/bin/env bash
# Runs all tests with the oldest, the locked and the newest libraries, each in an environment of its
# own, and prints the rows of the table in docs/install.md.
#   tools/test_matrix.sh [LIBRARIES:PYTHON ...]
# LIBRARIES: oldest or newest (that the requirements allow), lock, or pip (that it installs by itself).
# Needs uv, which is in the lock, and the Pythons.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($#)) || set -- oldest:3.10 lock:3.10 lock:3.11 lock:3.12 lock:3.13 pip:3.12 newest:3.13
folder=${XDG_CACHE_HOME:-$HOME/.cache}/adpe_mm/matrix
mkdir -p "$folder"
status=0
requirements=()
for name in runtime seg det dev docs; do requirements+=(-r "requirements/$name.txt"); done

# make_environment LIBRARIES PYTHON FOLDER
make_environment() {
    if [[ $1 == lock ]]; then
        ADPE_ENV=$3 PYTHON=python$2 bash tools/setup_env.sh
        return
    fi
    uv venv -q --seed --clear --python "python$2" "$3"
    case $1 in
        oldest) VIRTUAL_ENV=$3 uv pip install -q --resolution lowest-direct "${requirements[@]}" ;;
        newest) VIRTUAL_ENV=$3 uv pip install -q --upgrade "${requirements[@]}" ;;
        pip) "$3/bin/pip" install -q '.[seg,det,dev,docs]' ;;
        *) echo "test_matrix: unknown libraries '$1'" >&2 && exit 2 ;;
    esac
}

for entry in "$@"; do
    env=$folder/${entry/:/-py}
    log=$env.log
    make_environment "${entry%:*}" "${entry#*:}" "$env" > "$log" 2>&1 || {
        echo "test_matrix: no environment for $entry, see $log" >&2
        status=1
        continue
    }
    PYTHONPATH=$PWD OMP_NUM_THREADS=1 "$env/bin/python" -m pytest -q -n 2 >> "$log" 2>&1 || status=1
    "$env/bin/python" - "$entry" "$(tail -n 1 "$log")" << 'EOF'
import datetime, importlib.metadata, platform, sys
entry, result = sys.argv[1:]
names = 'torch torchvision numpy mmengine mmcv mmpretrain mmsegmentation mmdetection'.split()
versions = [importlib.metadata.version(('onedl-' if n[:2] == 'mm' else '') + n) for n in names]
cells = [entry.partition(':')[0], platform.python_version(), *versions, result.strip('= ')]
print('|', ' | '.join([*cells, str(datetime.date.today())]), '|', flush=True)
EOF
done
exit $status
