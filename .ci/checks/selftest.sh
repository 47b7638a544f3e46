#!/usr/bin/env bash
# selftest.sh BUILD_DIR: plants a violation for every check and demands that it is found, and that
# the same tree without it passes. A check that cannot fail is worse than none.
set -euo pipefail
build=$1
checks=.ci/checks
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
n=0
failures=0

# expect RC_WORD PATTERN COMMAND...: RC_WORD is passes or fails, PATTERN must be in the output.
expect() {
    local wanted=$1 pattern=$2 got=passes
    shift 2
    n=$((n + 1))
    "$@" >"$temp/output" 2>&1 || got=fails
    if [ "$got" != "$wanted" ] || ! grep -q -e "$pattern" "$temp/output"; then
        failures=$((failures + 1))
        echo "expected that it $wanted with '$pattern', but it $got: $*"
        sed 's/^/    /' "$temp/output"
    fi
}

# ---- layers, banned, listed: a small tree with one file after the other ---------------------------
tree=$temp/tree
fresh_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"/sdk/{include/penstock,src/util,src/core,src/io} "$tree"/plugins/x "$tree"/cli
    echo '#include <stdint.h>' >"$tree/sdk/include/penstock/plugin.h"
    echo '#include <stdint.h>' >"$tree/sdk/include/penstock/store.h"
    echo 'int pst_a(void);' >"$tree/sdk/src/util/a.h"
    echo '#include "core/c.h"' >"$tree/sdk/src/core/c.c"
    echo '#include "util/a.h"' >"$tree/sdk/src/core/c.h"
    echo 'int pst_i(void);' >"$tree/sdk/src/io/i.h"
    echo '#include <penstock/plugin.h>' >"$tree/plugins/x/x.c"
    echo '#include <penstock/store.h>' >"$tree/cli/main.c"
    echo 'src/core/c.c include/penstock/plugin.h include/penstock/store.h' >"$tree/sdk/CMakeLists.txt"
    echo 'pst_add_plugin(NAME x SOURCES x.c)' >"$tree/plugins/x/CMakeLists.txt"
    echo 'main.c' >"$tree/cli/CMakeLists.txt"
}
plant() { # plant CHECK PATTERN FILE TEXT
    fresh_tree
    printf '%b\n' "$4" >>"$tree/$3"
    expect fails "$2" "$checks/$1" "$tree"
}
fresh_tree
expect passes ', 0 forbidden' $checks/layers.py "$tree"
plant layers.py 'may not include sdk/src/io/i.h' sdk/src/core/c.c '#include "io/i.h"'
plant layers.py 'may not include sdk/src/core/c.h' sdk/src/util/a.h '#include "../core/c.h"'
plant layers.py 'a plugin may not include' plugins/x/x.c '#include <penstock/store.h>'
plant layers.py 'may not include sdk/src' plugins/x/x.c '#include "util/a.h"'
plant layers.py 'may not include sdk/src' cli/main.c '#  include "core/c.h"'
plant layers.py 'no public header' cli/main.c '#include <penstock/gone.h>'
plant layers.py 'not in the tree' cli/main.c '#include "gone.h"'
plant layers.py 'may not need' sdk/include/penstock/store.h '#include <stdio.h>'
plant layers.py 'not in a layer' sdk/src/misc.c ''
fresh_tree
echo '/* strcpy(a, b) */ const char *s = "gets(x)"; void *p = malloc(sizeof *p);' >>"$tree/cli/main.c"
echo 'void *q = realloc(p, sizeof(struct a *)); int n = my_rand(2); x->exit(1);' >>"$tree/cli/main.c"
expect passes ', 0 banned' $checks/banned.py "$tree"
for name in strcpy strcat sprintf atoi strtok gets localtime strerror rand; do
    plant banned.py "$name: use" cli/main.c "int x = $name (1);"
done
plant banned.py 'a product as a size' cli/main.c 'p = malloc(n * sizeof *p);'
plant banned.py 'a product as a size' cli/main.c 'p = realloc(p, sizeof(int) * (n + 1));'
plant banned.py 'cleanup attributes' cli/main.c 'int x __attribute__((cleanup(f)));'
plant banned.py 'finish it' cli/main.c "/* TO""DO: more */"
plant banned.py 'exit: use' sdk/src/core/c.c 'void f(void) { exit(1); }'
plant banned.py 'printf: use' plugins/x/x.c 'void f(void) { printf("x"); }'
fresh_tree
expect passes ', 0 not listed' $checks/listed.py "$tree"
plant listed.py 'sdk/src/io/lost.c: in no' sdk/src/io/lost.c ''
plant listed.py 'penstock/lost.h: in no' sdk/include/penstock/lost.h ''

# ---- headers and layout: the real headers with one edit -------------------------------------------
include=$temp/include
edit() { # edit FILE SED_EXPRESSION
    rm -rf "$include"
    cp -r sdk/include "$include"
    sed -i -e "$2" "$include/penstock/$1"
    if cmp -s "sdk/include/penstock/$1" "$include/penstock/$1"; then
        failures=$((failures + 1))
        echo "the edit '$2' no longer changes $1"
    fi
}
edit many.h '/#include/d'
expect fails 'many.h: ' $checks/headers.sh "$include"
edit plugin.h '/^} pst_part_args;/i\    uint32_t odd;'
expect fails 'padding or a moving member' $checks/headers.sh "$include"
edit plugin.h 's/^typedef struct pst_part_args {/&\n    uint32_t odd, odder; void *moved;/'
expect fails 'pst_part_args.offset at a multiple of 8' $checks/headers.sh "$include"

layout() { PST_INCLUDE=$include python3 tests/abi/layout.py check services.h tests/abi/plugin-1.0.json; }
edit services.h 's/^    pst_op \*op;  .*/&\n    void *moved;/'
expect fails 'pst_http_request.body_max at a multiple of 8' $checks/headers.sh "$include"

edit plugin.h '/^} pst_part_args;/i\    uint64_t appended;'
expect passes ' 0 breaks' layout
edit services.h 's/void (\*resume)(pst_http_client \*, uint64_t id);/void (*resume)(pst_http_client *);/'
expect fails 'struct pst_http_1: .*resume' layout
edit base.h '/^} pst_str;/i\    uint64_t appended;'
expect fails 'struct pst_str grew' layout
edit plugin.h '/^    uint32_t number; .* from 0/s/number/ordinal/'
expect fails 'struct pst_part_args: ' layout
edit plugin.h 's/uint64_t expires_s;/int64_t expires_s;/'
expect fails 'struct pst_presign_args: ' layout
edit plugin.h 's/void (\*flush)(pst_backend \*);/void (*flush)(pst_backend *, int);/'
expect fails 'struct pst_backend_ops: .*flush' layout
edit plugin.h 's/^#define PST_BUSY 2/#define PST_BUSY 4/'
expect fails 'PST_BUSY: 2 became 4' layout
edit plugin.h '/^#define PST_PAGE_LAST/d'
expect fails 'PST_PAGE_LAST is gone' layout
edit plugin.h 's/^#define PST_CAP_APPEND .*/#define PST_CAP_APPEND 1u/'
expect fails 'are the same number' layout
edit plugin.h '/^} pst_part_args;/i\    pst_attr embedded;'
expect fails 'embeds pst_attr by value' layout

# ---- symbols --------------------------------------------------------------------------------------
expect passes ' 0 faults' $checks/symbols.sh "$build"
sed 1,20d tests/abi/symbols.txt >"$temp/ledger"
expect fails 'differ from the ledger' $checks/symbols.sh "$build" "$temp/ledger"
{ cat tests/abi/symbols.txt; echo pst_zz_lost; } >"$temp/ledger"
expect fails 'differ from the ledger' $checks/symbols.sh "$build" "$temp/ledger"

# ---- totals ---------------------------------------------------------------------------------------
echo '# none' >"$temp/allowed"
junit() { # junit STATUS CHILD
    printf '<testsuite><testcase name="a" status="run"/><testcase name="b" status="%s">%s</testcase>%s' \
        "$1" "$2" '</testsuite>' >"$temp/junit.xml"
}
totals() { python3 $checks/totals.py "$temp/junit.xml" "$temp/allowed"; }
junit run ''
expect passes '^2 passed, 0 failed, 0 skipped$' totals
junit fail '<failure message="x"/>'
expect fails '^1 passed, 1 failed, 0 skipped$' totals
junit run '<system-out>[  FAILED  ] test_b__x</system-out>'
expect fails '^1 passed, 1 failed, 0 skipped$' totals
junit notrun '<skipped message="x"/>'
expect fails '^1 passed, 0 failed, 1 skipped$' totals
echo 'b: needs a kernel of 2030' >"$temp/allowed"
expect passes '^1 passed, 0 failed, 1 skipped$' totals
echo 'b:' >"$temp/allowed"
expect fails 'want `test name: reason`' totals
echo '<testsuite/>' >"$temp/junit.xml"
echo '# none' >"$temp/allowed"
expect fails 'no test ran' totals
rm "$temp/junit.xml"
expect fails 'it did not run' totals

# ---- format and tidy: the tools are there and the configuration bites ----------------------------
printf 'int  f( void ){return 1;}\n' >"$temp/bad.c"
expect fails 'bad.c' clang-format-14 --style=file:.clang-format --dry-run --Werror "$temp/bad.c"
printf 'int f(int *p);\nint f(int *p)\n{\n    if (p == 0)\n        return *p;\n    return 0;\n}\n' \
    >"$temp/bad.c"
expect fails 'NullDereference' clang-tidy-14 --config-file=.clang-tidy --quiet "$temp/bad.c" --

echo "$n plants, $failures not as expected"
[ "$failures" -eq 0 ]
