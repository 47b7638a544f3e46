# transfer_lib.sh - what the transfer tests share. Sourced; then `run_tests` runs every function whose
# name begins with test_, each in a folder of its own ($dir) and a shell of its own, where the first
# command that fails, fails the test.
set -uo pipefail
export LC_ALL=C
unset PENSTOCK_CONFIG PENSTOCK_PLUGIN_PATH
penstock=$PST_TEST_BIN/penstock

scratch=$(mktemp -d)
trap 'chmod -R u+rwx "$scratch" 2>/dev/null; rm -rf "$scratch"' EXIT

# expect CODE COMMAND...: the exit code must be CODE; output goes to $dir.out and $dir.err.
expect() {
    local wanted=$1 code=0
    shift
    "$@" >"$dir.out" 2>"$dir.err" </dev/null || code=$?
    if [ "$code" != "$wanted" ]; then
        echo "    exit code $code, wanted $wanted: $*"
        sed 's/^/    /' "$dir.err"
        return 1
    fi
}

# said TEXT: stderr of the last command has it, and no line that is not ours.
said() {
    if ! grep -qF -- "$1" "$dir.err"; then
        echo "    not said: $1"
        sed 's/^/    /' "$dir.err"
        return 1
    fi
    if grep -v '^penstock: ' "$dir.err"; then
        echo "    a line on stderr that is not ours"
        return 1
    fi
}

# printed TEXT: stdout of the last command has it.
printed() {
    grep -qF -- "$1" "$dir.out" || {
        echo "    not printed: $1"
        sed 's/^/    /' "$dir.out"
        return 1
    }
}

# silent: the last command wrote nothing.
silent() {
    [ ! -s "$dir.out" ] || cat "$dir.out"
    [ ! -s "$dir.err" ] || cat "$dir.err"
    [ ! -s "$dir.out" ] || return 1
    [ ! -s "$dir.err" ]
}

# lacks FILE TEXT. (A "!" before a command would hide its failure from set -e.)
lacks() {
    if grep -F -- "$2" "$1"; then
        echo "    should not be in $1: $2"
        return 1
    fi
}

# same A B: two trees, names and bytes.
same() {
    diff -r --no-dereference "$1" "$2" >"$dir.diff" || {
        echo "    $1 and $2 differ:"
        head -5 "$dir.diff" | sed 's/^/    /'
        return 1
    }
}

# text FILE: its content.
holds() {
    [ "$(cat "$1")" = "$2" ] || {
        echo "    $1 holds '$(cat "$1")', wanted '$2'"
        return 1
    }
}

absent() {
    local path
    for path; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            echo "    $path is there"
            return 1
        fi
    done
}

# no_rest DIR: no temporary and no lock file is left below it.
no_rest() {
    local rest
    rest=$(find "$1" -name '.penstock-*')
    [ -z "$rest" ] || {
        echo "    left behind: $rest"
        return 1
    }
}

run_tests() {
    local name n_failed=0 n=0
    for name in $(declare -F | awk '$3 ~ /^test_/ {print $3}'); do
        n=$((n + 1))
        dir=$scratch/$name
        mkdir "$dir"
        (
            set -e
            cd "$dir"
            "$name"
        ) >"$dir.log" 2>&1
        if [ $? = 0 ]; then
            echo "ok $name"
        else
            echo "not ok $name"
            cat "$dir.log"
            n_failed=$((n_failed + 1))
        fi
        chmod -R u+rwx "$dir"
        rm -rf "$dir"
    done
    echo "$((n - n_failed)) of $n passed"
    [ "$n_failed" = 0 ]
}
