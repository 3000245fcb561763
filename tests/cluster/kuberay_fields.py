"""The fields of KubeRay's resources that its operator (v1.4 and later) knows, without the Kubernetes types in them.

Written from the custom resource definitions of `ray.io/v1` (ray-project/kuberay, helm-chart/kuberay-operator/crds), by
which the API server judges a manifest. Fields that are not listed are refused here; the server may drop them unsaid.
"""

from typing import Any

STRING, INTEGER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
STRINGS = {"type": "object", "additionalProperties": STRING}
ANY_OBJECT = {"type": "object"}


def closed(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required or [],
        "properties": properties,
    }


GROUP = {"rayStartParams": STRINGS, "labels": STRINGS, "resources": STRINGS, "template": ANY_OBJECT}
HEAD = closed(["template"], serviceType=STRING, enableIngress=BOOLEAN, **GROUP)
WORKERS = closed(
    ["groupName", "minReplicas", "maxReplicas", "template"],
    groupName=STRING,
    replicas=INTEGER,
    minReplicas=INTEGER,
    maxReplicas=INTEGER,
    numOfHosts=INTEGER,
    idleTimeoutSeconds=INTEGER,
    suspend=BOOLEAN,
    **GROUP,
)
AUTOSCALER = closed(
    idleTimeoutSeconds=INTEGER,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    image=STRING,
    imagePullPolicy=STRING,
    resources=ANY_OBJECT,
)
CLUSTER = closed(
    ["headGroupSpec"],
    rayVersion=STRING,
    suspend=BOOLEAN,
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=STRINGS,
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = closed(
    activeDeadlineSeconds=INTEGER,
    backoffLimit=INTEGER,
    clusterSelector=STRINGS,
    entrypoint=STRING,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=STRING,
    jobId=STRING,
    metadata=STRINGS,
    rayClusterSpec=CLUSTER,
    runtimeEnvYAML=STRING,
    shutdownAfterJobFinishes=BOOLEAN,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    suspend=BOOLEAN,
    ttlSecondsAfterFinished=INTEGER,
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def resource(kind: str) -> dict[str, Any]:
    """The JSON schema of a whole manifest."""
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=closed(["name"], name=STRING, namespace=STRING, labels=STRINGS, annotations=STRINGS),
        spec=SPECS[kind],
    )
