#!/usr/bin/env bash
# Makes the raw results in this folder: trains every agent with several seeds, and evaluates each run by itself, on held-out weeks.
#   results/run.sh [JOBS]      so many runs side by side, each on one core; default 2
# Run again, it goes on: with a run's next evaluation if the run is still in runs/results, with its training otherwise.
# ONLY=REGEX restricts it to some lines of the list at the end, such as ONLY='^118 (mafql|bc) '.
# GPU=1 trains on the GPU, which all jobs share.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 PATH="$PWD/.venv/bin:$PATH"
EPISODES=20
LIMITS_14=0.7
# Weeks that nothing was tuned on: those of seed 5; choices were made on `split: train`, seeds 1 and 2.
WEEKS='scenarios: {source: generated, weeks: 36, split: test, seed: 5}'

# The settings of a grid, whole weeks and days, all behind the projection of level `lines`. With `all`, weeks without it, too.
settings() {
  if [[ $1 == 14 ]]; then
    echo 14 14_days
    [[ $2 != all ]] || echo 14_unprojected
    return
  fi
  echo 118_x0.9_opponent 118_x1.0 118_x1.0_opponent 118_x0.9 118_x0.9_opponent_days 118_x1.0_days
  [[ $2 != all ]] || echo 118_x0.9_opponent_unprojected 118_x1.0_unprojected
}

# What env_config says in a setting.
config() {
  local grid=l2rpn_idf_2023 limits=${1#118_x} opponent=false steps=2015 level=lines
  limits=${limits%%_*}
  [[ $1 == 14* ]] && grid=educ_case14_storage limits=$LIMITS_14
  [[ $1 == *_opponent* ]] && opponent=true
  [[ $1 == *_days ]] && steps=287
  [[ $1 == *_unprojected ]] && level=none
  echo "{grid: $grid, thermal_limit_scale: $limits, opponent: $opponent, balance: grid, max_steps: $steps," \
    "safety: {level: $level}, redispatch_solver: direct, $WEEKS}"
}

# The settings that lack a result: GRID NAME plain|all
missing() {
  local setting
  for setting in $(settings "$1" "$3"); do
    [[ -e results/$setting/$2.json ]] || echo "$setting"
  done
}

# Evaluates an agent in the settings that it lacks: GRID NAME plain|all WORD
evaluate() {
  local setting
  for setting in $(missing "$1" "$2" "$3"); do
    mkdir -p "results/$setting"
    mafql evaluate "$4" --episodes $EPISODES --workers 0 --config "$(config "$setting")" --json "results/$setting/$2.json"
  done
}

# What env_config trains on, beside what the examples say: the grid is all that differs.
trained_on() {
  # no line of the 14-bus grid is maintained; all learn behind the projection that they are evaluated behind,
  # which dispatches much there by itself
  [[ $1 == 14 ]] && echo "env_config: {grid: educ_case14_storage, thermal_limit_scale: $LIMITS_14, opponent: false," \
    "safety: {level: lines}, scenarios: {before_outages: 0.0}}, "
  true
}

# Whether a run was trained to its end, and not interrupted, when it leaves a checkpoint, too.
trained() {
  cat "$1"/*/result.json 2> /dev/null | tail -n 1 | grep -q '"done": true'
}

# Trains an agent with a seed and evaluates what it became, the first seed of some without projection, too: GRID AGENT SEED
run() {
  local grid=$1 agent=$2 name=$2_$3 folder=runs/results/$1_$2_$3 which=plain file=tuned_examples/case118_baselines.yaml
  local word=$agent=$folder experiment=$agent data="input_: recordings/case${1}_opponent, "
  case $agent in
    mafql) which=all file=tuned_examples/case118_mafql_opponent.yaml experiment=case118_mafql_opponent ;;
    bc) which=all word+=:decentralized ;;
    mac_flow) word+=:decentralized ;;
    ppo | mappo | sac) data= ;;
  esac
  [[ $3 == 0 ]] || which=plain
  [[ -n $(missing "$grid" "$name" $which) ]] || return 0
  if ! trained "$folder"; then
    rm -rf "$folder"
    rllib train file $file --only $experiment --config "{$(trained_on "$grid")${data}seed: $3${GPU:+, num_gpus_per_learner: 1}}" \
      --ray-num-cpus 2 --storage-path runs/results --experiment-name "${folder##*/}"
  fi
  evaluate "$grid" "$name" $which "$word"
}

# Fills a recording's folder once, whoever else asks for it meanwhile: FOLDER COMMAND...
once() {
  mkdir -p recordings
  (
    flock 9
    [[ ! -e $1/complete ]] || exit 0
    rm -rf "$1"
    "${@:2}"
    touch "$1/complete"
  ) 9> "$1.lock"
}

# Records what the learners of a grid learn from: GRID
opponent_data() {
  local folder=recordings/case${1}_opponent
  once "$folder" opponent_parts "$1" "$folder"
}

# Both parts of that: GRID FOLDER
opponent_parts() {
  local part
  rm -rf runs/results/data_"$1"_*
  for part in attacked calm; do
    [[ $1 == 118 || $part == calm ]] || continue # nothing attacks on 14 buses
    rllib train file tuned_examples/case118_opponent_data.yaml --only $part --storage-path runs/results \
      --experiment-name "data_$1_$part" --config "{$(trained_on "$1")output: $2/$part}"
  done
}

# Records dispatchers' play: FOLDER, and what `mafql record` is told.
recorded() {
  once "$1" mafql record --out "$1" --seed 0 "${@:2}"
}

# Play of mixed quality, random play included, whose policies are named.
mixed_play() {
  recorded recordings/case118 --policy qp_zones=3,proportional_zones=2,do_nothing=3,random=2 --noise 0.3 \
    --random-start 0.6 --steps 100000 --config '{scenarios: {source: generated, weeks: 24}}'
}

# Whether policies' samples reach the several good dispatches of a state.
modes() {
  local name agents=()
  recorded recordings/case118_modes --policy qp_zones --noise 1.0 --steps 60000 \
    --config '{thermal_limit_scale: 0.9, max_steps: 24, scenarios: {source: generated, weeks: 96}}'
  for name in flow flow_wide flow_5_steps independent_flow flow_bc gaussian diffusion; do
    case $name in
      flow) agents+=("teacher=runs/results/modes_$name:centralized") ;;
      flow_wide) agents+=("teacher_wide=runs/results/modes_$name:centralized") ;;
    esac
    agents+=("$name=runs/results/modes_$name:decentralized")
    trained "runs/results/modes_$name" ||
      rllib train file tuned_examples/case118_modes.yaml --only $name --ray-num-cpus 2 \
        --storage-path runs/results --experiment-name "modes_$name"
  done
  mafql modes "${agents[@]}" --json results/modes.json
}

# What each part of the method does in the hard setting: half of the updates, and many days rather than few weeks, which tell more
# of small differences, because a week that is lost early tells nothing of the rest of it.
ablations() {
  local name only=()
  opponent_data 118
  for name in no_bc no_flow no_distillation no_conservatism no_q only_bc only_flow only_q joint_conservatism centralized no_projection; do
    only+=(--only $name)
  done
  mafql ablate tuned_examples/case118_mafql_opponent.yaml --out runs/results/ablations --seeds 1 --episodes 100 --workers 0 \
    --stop '{num_learner_updates: 4000}' "${only[@]}" --config "$(config 118_x0.9_opponent_days)"
  cp runs/results/ablations/results.json results/ablations.json
}

# Steps of the flows and quality of the data, where it learns from mixed play without advice.
ablations_steps() {
  local name only=()
  mixed_play
  for name in student_{2..5}_steps teacher_{1..4}_steps cloned_qp cloned_poor; do only+=(--only $name); done
  mafql ablate tuned_examples/case118_mafql_offline.yaml --out runs/results/ablations_steps --seeds 1 --episodes 100 --workers 0 \
    "${only[@]}" --config "{redispatch_solver: direct, $WEEKS}"
  cp runs/results/ablations_steps/results.json results/ablations_steps.json
}

# What zones see: dispatchers' play of the same episodes, recorded with other observations, learned from and played alike.
observability() {
  local seen agents=()
  [[ ! -e results/118_x1.0_observability.json ]] || return 0
  for seen in local border outages global; do
    recorded "recordings/case118_$seen" --policy qp_zones=3,proportional_zones=2,do_nothing=3,random=2 --noise 0.3 \
      --random-start 0.6 --steps 100000 --config "{observability: $seen, scenarios: {source: generated, weeks: 24}}"
    agents+=("$seen=runs/results/observability_$seen:decentralized")
    trained "runs/results/observability_$seen" ||
      rllib train file tuned_examples/case118_mafql_offline.yaml --ray-num-cpus 2 --storage-path runs/results \
        --experiment-name "observability_$seen" \
        --config "{input_: recordings/case118_$seen, evaluation_interval: 0, env_config: {observability: $seen}}"
  done
  mafql evaluate "${agents[@]}" --episodes 100 --workers 0 --config "{redispatch_solver: direct, $WEEKS}" \
    --json results/118_x1.0_observability.json
}

# The same where nobody says whose play is worth imitating.
ablations_unlabelled() {
  local name only=()
  mixed_play
  for name in cloned_all cloned_all_alone cloned_all_weighted; do only+=(--only $name); done
  mafql ablate tuned_examples/case118_mafql_offline.yaml --out runs/results/ablations_unlabelled --seeds 1 --episodes 100 --workers 0 \
    "${only[@]}" --config "{redispatch_solver: direct, $WEEKS}"
  cp runs/results/ablations_unlabelled/results.json results/ablations_unlabelled.json
}

# A week with a planned outage that only those who prepared for it survive.
film() {
  mafql film qp_zones mafql=runs/results/118_mafql_0:decentralized qp do_nothing --episode 11 \
    --config "$(config 118_x1.0)" --json results/film.json
}

# Which of the comparison's weeks have overloads that no dispatch prevents.
infeasible() {
  local setting
  for setting in 118_x1.0 118_x0.9 118_x1.0_days; do
    [[ -e results/infeasible_${setting#118_}.json ]] || mafql scenarios infeasible --episodes $EPISODES \
      --config "$(config $setting)" --json "results/infeasible_${setting#118_}.json"
  done
}

# What Grid2Op's own scorers say.
scores() {
  mafql export runs/results/118_mafql_0 --out runs/results/118_mafql_0_export
  mafql score runs/results/118_mafql_0_export do_nothing proportional_zones qp_zones qp_n1 --episodes $EPISODES \
    --config "$(config 118_x1.0_days)" --json results/scores.json
}

# What a decision takes, with nothing else running.
latency() {
  mafql bench latency --grid l2rpn_idf_2023 --flow-steps 5 --json results/latency.json
}

# One line of the list below, in a process of its own, which ends where anything fails.
if [[ ${1:-} == line ]]; then
  case $4 in
    rule) evaluate "$2" "$3" all "$3" ;;
    other) [[ -e results/$3.json ]] || "$3" ;;
    *) run "${@:2}" ;;
  esac
  exit
fi
if [[ ${1:-} == job ]]; then
  log=runs/results/$2_$3_$4.log
  echo "$(date -u +%T) ${*:2}"
  "$0" line "${@:2}" > "$log" 2>&1 || {
    echo "failed: ${*:2}, see $log" >&2
    exit 1
  }
  exit
fi
mkdir -p runs/results
list=$(
  for grid in 118 14; do printf "$grid %s rule\n" qp_zones qp qp_n1 do_nothing proportional_zones; done
  for seed in 0 1 2; do
    for grid in 118 14; do
      printf "$grid %s $seed\n" mafql bc gaussian mac_flow diffusion independent_fql ppo mappo sac
    done
  done
  for grid in 118 14; do printf "$grid mafql %s\n" 3 4; done
  printf "118 %s other\n" modes ablations ablations_steps ablations_unlabelled observability film infeasible scores latency
)
list=$(grep -E "${ONLY:-.}" <<< "$list")
for grid in 118 14; do
  if grep -qE "^$grid (mafql|bc|mac_flow|gaussian|diffusion|independent_fql) [0-9]" <<< "$list"; then
    opponent_data $grid
  fi
done
xargs -P "${1:-2}" -L 1 "$0" job <<< "$list"
