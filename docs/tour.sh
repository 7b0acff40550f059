#!/usr/bin/env bash
# A day with stepjax in some minutes on two CPU cores: train, look, choose, label, train again, compare, export.
#
#     docs/tour.sh [FOLDER [OPTION…]]          # default: runs/tour; options of all that is trained, as --config.model.layers=2
#
# The runs are a third as long as the quickstart's; every command is one that a real run has, too.
set -euo pipefail
folder=${1:-runs/tour}
shift || true
run=$folder/step

say() { printf '\n== %s\n' "$*"; }

say "SFT, a process reward model, step-level PPO, evaluation, report"
stepjax quickstart --workdir="$run" --config.sft.updates=1500 --config.prm.updates=300 --config.prm.samples=2048 \
  --config.ppo.iterations=15 --config.ppo.checkpoint_every=5 --config.eval.problems=256 "$@"
stepjax options --workdir="$run" --changed

say "What it writes: to a file with scores, the wrong ones on the screen, one problem step by step"
stepjax sample --workdir="$run" --config.problems=32 --config.samples=2 --config.prm=True
stepjax show responses "$run/samples/ppo-test.jsonl" --wrong --limit=2
stepjax sample --workdir="$run" --problem="a=4;b=a-1;c=7;d=b+5;?d" --answer=8

say "Best of N by the reward model, against majority and pass@N"
stepjax eval --workdir="$run" --config.kind=best_of_n --config.problems=32 --config.pool=16

say "Labels without annotators, and a reward model of them"
stepjax label --workdir="$run" --config.kind=hard --config.completions=4 --config.problems=64 --config.samples=2
stepjax prm --config.base="$run" --config.prm.data="$run/labels/monte_carlo.jsonl" --config.prm.target=value \
  --config.prm.updates=100 --workdir="$folder/labels" "$@"

say "The same policy rewarded by the graded answer alone, and what differs"
stepjax ppo --config.base="$run" --config.ppo.streams.process=none --config.ppo.streams.outcome.signal=outcome \
  --config.ppo.streams.outcome.bad=0 --config.ppo.streams.outcome.horizon=response --config.ppo.streams.outcome.lam=1 \
  --config.ppo.iterations=15 --workdir="$folder/outcome" "$@"
stepjax eval --workdir="$folder/outcome" --config.problems=256
stepjax compare "$run" "$folder/outcome" --html="$folder/compare.html"

say "A page of the run; a Hugging Face folder, which any software reads, and this one again"
stepjax report --workdir="$run"
stepjax export --workdir="$run" --config.out="$folder/policy"
stepjax sample --config.model.path="$folder/policy" --config.problems=16 --config.temperature=0 \
  --workdir="$folder/exported"
