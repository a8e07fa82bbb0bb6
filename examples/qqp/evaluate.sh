#!/bin/sh
# All rows of docs/results/qqp.md. A row that is there already is not made again, so the script can be stopped and restarted.
# usage: examples/qqp/evaluate.sh TEACHER STUDENT DATA OUT [all|student|teacher|slow|diverse]; the last is for another STUDENT
set -eu
teacher=$1 student=$2 data=$3 out=$4 which=${5:-all}
case $which in all | student | teacher | slow | diverse) ;; *) echo "evaluate.sh: nothing is called '$which'" >&2 && exit 2 ;; esac
mkdir -p "$out"

row() { # name, model, split, further options of `dlkit eval`
    name=$1 model=$2 split=$3
    shift 3
    [ -e "$out/$name.json" ] ||
        dlkit eval --model "$model" --data "$data" --split "$split" --protocol dlkit --json "$out/$name.json" "$@"
}
wanted() { [ "$which" = all ] || [ "$which" = "$1" ]; }

if wanted student; then
    for k in 1 2 4; do
        row "student-$k" "$student" test --steps $k --samples 3
        row "student-$k-unseen" "$student" test_unseen --steps $k --samples 3
        row "student-$k-mbr10" "$student" test --steps $k --mbr 10
    done
fi
if [ "$which" = diverse ]; then
    row diverse-1 "$student" test --samples 3
    row diverse-1-unseen "$student" test_unseen --samples 3
    row diverse-1-mbr10 "$student" test --mbr 10
fi
if wanted teacher; then
    for k in 1 10 20 50; do
        samples=$([ $k -le 10 ] && echo 3 || echo 1)
        row "teacher-ddim$k" "$teacher" test --sampler ddim --steps $k --samples "$samples"
    done
    row teacher-ddim1-unseen "$teacher" test_unseen --sampler ddim --steps 1 --samples 3
    for k in 10 20 50; do
        row "teacher-ddim$k-unseen" "$teacher" test_unseen --sampler ddim --steps $k --samples 1
    done
    rounded="{name: ddim, rounding: true}"
    row teacher-ddim5-rounded "$teacher" test --sampler "$rounded" --steps 5 --samples 3
    row teacher-ddim10-rounded "$teacher" test --sampler "$rounded" --steps 10 --samples 3
    row teacher-ddim20-rounded "$teacher" test --sampler "$rounded" --steps 20
    row teacher-ddim10-rounded-unseen "$teacher" test_unseen --sampler "$rounded" --steps 10
    row teacher-ddim10-rounded-mbr10 "$teacher" test --sampler "$rounded" --steps 10 --mbr 10
    row teacher-ddim1-mbr10 "$teacher" test --sampler ddim --steps 1 --mbr 10
    row teacher-ddim10-mbr10 "$teacher" test --sampler ddim --steps 10 --mbr 10
    row teacher-ddim20-mbr10 "$teacher" test --sampler ddim --steps 20 --mbr 10
    row teacher-ddim50-mbr10-first100 "$teacher" test --sampler ddim --steps 50 --mbr 10 --limit 100
fi
if wanted slow; then # 200 to 2,000 network calls a text
    row teacher-ancestral2000-first64 "$teacher" test --sampler "{name: ancestral, rounding: true}" --steps 2000 --limit 64
    row teacher-ddim200 "$teacher" test --sampler ddim --steps 200
fi
