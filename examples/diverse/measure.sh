#!/bin/sh
# All runs and reports of docs/results/diverse.md. What is there already is not made again, and a run that was stopped goes on.
# usage: examples/diverse/measure.sh TEACHER DATA OUT [all|teacher|front|0|1|2]
set -eu
teacher=$1 data=$2 out=$3 which=${4:-all}
case $which in all | teacher | front | 0 | 1 | 2) ;; *) echo "measure.sh: nothing is called '$which'" >&2 && exit 2 ;; esac
mkdir -p "$out"

student() { # name, recipe, further options of `dlkit distill`
    name=$1 recipe=$2
    shift 2
    [ -e "$out/$name/student" ] || set -- "$@" $([ ! -e "$out/$name" ] || echo --resume)
    [ -e "$out/$name/student" ] ||
        dlkit distill --recipe "$recipe" --teacher "$teacher" --data "$data" --out "$out/$name" "$@"
}
row() { # name, model, further options of `dlkit eval`
    name=$1 model=$2
    shift 2
    [ -e "$out/$name.json" ] || dlkit eval --model "$model" --data "$data" --protocol dlkit --json "$out/$name.json" "$@"
}
wanted() { [ "$which" = all ] || [ "$which" = "$1" ]; }

for seed in 0 1 2; do
    if wanted $seed; then
        student diverse-$seed diverse --seed $seed
        for s in 10 3; do row diverse-$seed-s$s "$out/diverse-$seed/student" --samples $s --limit 1024; done
        [ -e "$out/codes-$seed.json" ] || python "$(dirname "$0")/independent.py" --model "$out/diverse-$seed/student" \
            --data "$data" --json "$out/codes-$seed.json"
    fi
done
if wanted teacher; then
    for s in 10 3; do row teacher-s$s "$teacher" --sampler ancestral --steps 20 --samples $s --limit 1024; done
    row teacher-s64 "$teacher" --sampler ancestral --steps 20 --samples 64 --limit 128
    for k in 1 2 3 5 10 20; do
        for sampler in ancestral ddim; do
            row valid-$sampler-$k "$teacher" --sampler $sampler --steps $k --split valid --samples 10 --limit 128
        done
    done
fi
if wanted front; then # other recipes, validated as often and on as many texts
    seen="--set evaluation.num_samples=10"
    student demo demo $seen
    student sid demo $seen --set objective.mu=1.2 --set objective.detach_scores=false --set adv=true --set weights.b_adv_theta=0.05 \
        --set weights.b_adv_psi=0.05
    student dmd demo $seen --set "stages=[{steps: 300, objective: {name: ode_regression, pairs: 19200, steps: 5}}, {steps: 360}]"
    student all-noise diverse --set codes=null --set anchor.pairs=32768 --set "stages=[{steps: 300, weights: {a_sd: 1.0}, \
        objective: {name: ode_regression, pairs: 32768, steps: 5, tokens: 1.0}}, {steps: 300}]"
fi
