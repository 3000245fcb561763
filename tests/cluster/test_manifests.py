"""The cluster files of the documentation against the schemas of those who read them; misspelled copies are refused."""

import copy
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from rllib_mafql import MAFQL
from rllib_mafql.cli.checks import check
from rllib_mafql.cli.experiments import read_file
from rllib_mafql.cli.options import TrainOptions
from tests.cluster.kuberay_fields import SPECS, resource

FOLDER = Path(__file__).parents[2] / "docs" / "cluster"
LAUNCHER = yaml.safe_load((FOLDER / "launcher-aws.yaml").read_text(encoding="utf-8"))
CLAIM, CLUSTER, JOB = MANIFESTS = list(yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text(encoding="utf-8")))
EXPERIMENT = FOLDER / "case118_cluster.yaml"

# Kubernetes' own schemas, in which unknown fields are errors.
KUBERNETES = kubernetes_validate.latest_version()


def validate_manifest(manifest):
    """Raises a jsonschema.ValidationError where the API server would refuse a field, or drop it."""
    if manifest["kind"] not in SPECS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.validate(manifest, resource(manifest["kind"]))
    for group in groups(manifest["spec"]):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


def groups(spec):
    """The groups of a RayCluster's spec; of a RayJob's without a cluster of its own none."""
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]] if "headGroupSpec" in spec else []


def paths(value, path=()):
    """Where each key of nested mappings and lists lies."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        if isinstance(key, str):
            yield (*path, key)
        yield from paths(inner, (*path, key))


def misspelled(value, path):
    """A copy in which the last key of the path has a letter too much."""
    changed = inner = copy.deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    inner[f"{path[-1]}x"] = inner.pop(path[-1])
    return changed


# Mappings whose keys are the user's own, where nothing can be misspelled.
FREE = ("nodeSelector", "rayStartParams", "requests", "limits", "clusterSelector", "node_config", "resources")


def checked_paths(value, free=FREE):
    return [path for path in paths(value) if not set(path[:-1]) & set(free)]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kuberays_manifests_fit_their_schemas(manifest):
    validate_manifest(manifest)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_a_misspelled_field_of_a_manifest_is_found_wherever_it_is(manifest):
    # within "resources" of containers, requests and limits are Kubernetes' fields; their entries are free
    found = [path for path in paths(manifest) if not set(path[:-1]) & (set(FREE) - {"resources"})]
    assert len(found) > 5
    for path in found:
        with pytest.raises((jsonschema.ValidationError, KeyError)):
            validate_manifest(misspelled(manifest, path))


def launch(config):
    """What `ray up` checks before it starts anything."""
    validate_config(prepare_config(copy.deepcopy(config)))


def test_the_launchers_file_fits_rays_schema():
    launch(LAUNCHER)


def test_a_misspelled_field_of_the_launchers_file_is_found():
    found = [
        path
        for path in checked_paths(LAUNCHER)
        if path[:-1] not in [("available_node_types",), ("provider",)]  # names of the user's, options of AWS
    ]
    assert len(found) > 20
    for path in found:
        with pytest.raises((jsonschema.ValidationError, ValueError, KeyError, AssertionError)):
            launch(misspelled(LAUNCHER, path))


def bundles():
    """What the experiment asks of the cluster: the driver, then runners, evaluation runners and learners."""
    (experiment,) = read_file(EXPERIMENT, TrainOptions())
    return check(experiment).resources


def test_the_clusters_have_room_for_the_experiment_and_a_head_without_runners():
    (needed,) = bundles()
    config = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))["case118_cluster"]["config"]
    needed["mafql_replay"] = config["num_replay_shards"] * config["custom_resources_per_replay_shard"]["mafql_replay"]
    launched = LAUNCHER["available_node_types"]
    kuberay = {group.get("groupName", "head"): resources(group) for group in groups(CLUSTER["spec"])}
    replicas = {group["groupName"]: group["maxReplicas"] for group in CLUSTER["spec"]["workerGroupSpecs"]}
    clusters = [
        [(1, launched["head"]["resources"])]
        + [(launched[name]["max_workers"], launched[name]["resources"]) for name in ("learner", "runner")],
        [(1, kuberay["head"])] + [(replicas[name], kuberay[name]) for name in ("learners", "runners")],
    ]
    for nodes in clusters:
        assert nodes[0][1] == {"CPU": 0, "mafql_driver": 1, "mafql_replay": 2}
        for name, amount in needed.items():
            assert amount <= sum(number * have.get(name, 0) for number, have in nodes), name
    assert sum(launched[name].get("max_workers", 0) for name in launched) <= LAUNCHER["max_workers"]


def resources(group):
    """What a group of KubeRay's offers to Ray: CPUs as told, or else as many as the container may use."""
    params = group["rayStartParams"]
    (container,) = group["template"]["spec"]["containers"]
    cpus = params.get("num-cpus") or container["resources"]["limits"]["cpu"]
    return {"CPU": int(cpus), **json.loads(json.loads(params["resources"]))}


def test_the_experiments_actors_can_only_be_placed_where_they_belong():
    (experiment,) = read_file(EXPERIMENT, TrainOptions())
    placed = MAFQL.default_resource_request(check(experiment).config)
    driver, *others = placed.bundles
    assert driver == {"mafql_driver": 1.0}
    assert [b for b in others if "mafql_learner" in b] == [{"CPU": 4.0, "mafql_learner": 1.0}]
    runners = [b for b in others if "mafql_runner" in b]
    assert len(runners) == 64 + 8 == len(others) - 1
    assert all(bundle == {"CPU": 1.0, "mafql_runner": 1.0} for bundle in runners)


def test_shared_paths_are_mounted_on_every_node():
    shared = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))["case118_cluster"]["storage_path"].rsplit("/", 1)[0]
    assert any(f":{shared}" in option for option in LAUNCHER["docker"]["run_options"])
    for group in groups(CLUSTER["spec"]):
        pod = group["template"]["spec"]
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts[shared]]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
