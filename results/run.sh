#!/usr/bin/env bash
# Makes the raw results in this folder: trains every agent with several seeds, and evaluates each run by itself, on held-out weeks.
#   results/run.sh [JOBS]      so many runs side by side, each on one core; default 2
# Run again, it goes on: with a run's next evaluation if the run is still in runs/results, with its training otherwise.
# ONLY=REGEX restricts it to some runs, such as ONLY='^(mafql|bc) '. What this took is in docs/results.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 PATH="$PWD/.venv/bin:$PATH"
DATA=recordings/case118_opponent
WEEKS='scenarios: {source: generated, weeks: 36, split: test}'

# Settings: name, episodes and what env_config says. The projection is the same for everyone, or for none.
setting() {
  local limits=${1#118_x} opponent=false steps=2015 level=lines episodes=20
  [[ $1 == *_opponent* ]] && opponent=true
  [[ $1 == *_days ]] && steps=287 level=none
  [[ $1 == *_raw ]] && level=none
  echo "$episodes {thermal_limit_scale: ${limits%%_*}, opponent: $opponent, max_steps: $steps, safety: {level: $level}, $WEEKS}"
}
SETTINGS=(118_x0.9_opponent 118_x1.0 118_x0.9_opponent_days 118_x1.0_days 118_x1.0_opponent 118_x0.9 118_x0.9_opponent_raw)

# Evaluates agents under a name: results/SETTING/NAME.json for every setting.
evaluate() {
  local name=$1 setting episodes config
  shift
  for setting in "${SETTINGS[@]}"; do
    [[ -e results/$setting/$name.json ]] && continue
    read -r episodes config < <(setting "$setting")
    mkdir -p "results/$setting"
    mafql evaluate "$@" --episodes "$episodes" --workers 0 --config "$config" --json "results/$setting/$name.json"
  done
}

missing() {
  local setting
  for setting in "${SETTINGS[@]}"; do [[ -e results/$setting/$1.json ]] || return 0; done
  return 1
}

# Trains an agent with a seed and evaluates what it became.
run() {
  local agent=$1 seed=$2 name=$1_$2 file=tuned_examples/case118_baselines.yaml
  missing "$name" || return 0
  [[ $agent == mafql ]] && file=tuned_examples/case118_mafql_opponent.yaml
  if ! compgen -G "runs/results/$name/*/checkpoint_*/algorithm_state*" > /dev/null; then
    rm -rf "runs/results/$name"
    rllib train file "$file" --only "${agent/#mafql/case118_mafql_opponent}" --config "{seed: $seed}" \
      --storage-path runs/results --experiment-name "$name"
  fi
  case $agent in
    bc | mac_flow) evaluate "$name" "$agent=runs/results/$name:decentralized" ;;
    *) evaluate "$name" "$agent=runs/results/$name" ;;
  esac
}

# One line of the list below: a dispatcher, or an agent and a seed.
job() {
  mkdir -p runs/results
  local log=runs/results/${*// /_}.log
  echo "$(date -u +%T) $*"
  if [[ $1 == rule ]]; then evaluate "$2" "$2"; else run "$@"; fi > "${log// /_}" 2>&1 || { echo "failed: $*, see $log" >&2; return 255; }
}

if [[ ${1:-} == job ]]; then
  job "${@:2}"
  exit
fi
[[ -d $DATA ]] || rllib train file tuned_examples/case118_opponent_data.yaml --storage-path runs/results --experiment-name data
{
  for seed in 0 1 2; do
    for agent in mafql bc mac_flow gaussian diffusion independent_fql; do echo "$agent $seed"; done
    ((seed)) || printf 'rule %s\n' do_nothing proportional_zones qp_zones qp qp_n1_zones
  done
  for seed in 3 4; do echo "mafql $seed"; done
  for seed in 0 1 2; do for agent in ppo mappo sac; do echo "$agent $seed"; done; done
} | grep -E "${ONLY:-.}" | xargs -P "${1:-2}" -L 1 "$0" job
