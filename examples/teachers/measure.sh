#!/bin/sh
# All runs and reports of docs/results/teachers.md. What is there already is not made again, and a run that was stopped goes on.
# usage: examples/teachers/measure.sh DATA OUT [all|judge|flm|plaid|psd|sid_flm|sid_plaid|rows|timing]
# DATA is the folder e2e that prepare.py wrote.
set -eu
data=$1 out=$2 which=${3:-all} here=$(dirname "$0")
mkdir -p "$out"

wanted() { [ "$which" = all ] || [ "$which" = "$1" ]; }
resumed() { [ ! -e "$out/$1" ] || echo --resume; }
fit() { # name: a teacher by its recipe here
    [ -e "$out/$1/teacher" ] || dlkit train --recipe "$here/$1_e2e.yaml" --data "$data" --out "$out/$1" $(resumed "$1")
}
distil() { # name, teacher, recipe, further options
    name=$1 teacher=$2 recipe=$3
    shift 3
    [ -e "$out/$name/student" ] || dlkit distill --recipe "$here/${recipe}_e2e.yaml" --teacher "$out/$teacher/teacher" \
        --data "$data" --out "$out/$name" $(resumed "$name") "$@"
}
row() { # name, model, further options of `dlkit eval`
    name=$1 model=$2
    shift 2
    [ -e "$out/$name.json" ] || dlkit eval --model "$out/$model" --data "$data" --samples 500 \
        --metric "{name: gen_ppl, model: $out/judge}" --json "$out/$name.json" "$@"
}

if wanted judge; then
    [ -e "$out/judge" ] || python "$here/judge.py" --data "$data" --out "$out/judge" --tokenizer train:word:1000 --steps 1500
fi
if wanted flm; then fit flm; fi
if wanted plaid; then fit plaid; fi
if wanted psd; then distil psd flm psd; fi
if wanted sid_flm; then distil sid_flm flm sid; fi
if wanted sid_plaid; then distil sid_plaid plaid sid --set weights.a_dsm=10 --set stages.0.steps=300; fi
if wanted rows; then
    [ -e "$out/text.json" ] ||
        python "$here/real.py" --data "$data" --model "$out/flm/teacher" --judge "$out/judge" --samples 500 --json "$out/text.json"
    for k in 1 2 4 8 16 32; do
        row flm-$k flm/teacher --sampler euler --steps $k
        row plaid-$k plaid/teacher --sampler plaid --steps $k
    done
    for k in 1 2 4 8; do
        for student in psd sid_flm sid_plaid; do row $student-$k $student/student --steps $k; done
    done
fi
if wanted timing; then
    [ -e "$out/timing.json" ] || python "$here/timing.py" --runs "$out" --json "$out/timing.json"
fi
