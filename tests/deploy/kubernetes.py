"""What the manifests and the chart for Kubernetes come to, as JSON; tests/deploy/get-kubernetes says where its modules are.

    kubernetes.py kustomize FOLDER            what `kubectl kustomize` makes of a folder
    kubernetes.py chart FOLDER [VALUES]       what Helm makes of a chart with these values (JSON), linted first
    kubernetes.py values FILE                 a YAML file as it is

Every object is validated strictly against the API of the oldest and the newest Kubernetes below, and each kind of others
against the fields that are written here. Exit 0 with {"objects": [...]}, exit 1 with one problem a line.
"""

import json
import subprocess
import sys

import yaml

# The oldest API that has all of it without feature gates, and the newest whose schemas there are.
VERSIONS = ["1.27", "1.37"]

# Kinds of others have no schema here: the fields that are used, by what their documentation calls required.
# A value is the type, a dict the fields of an object, a list the form of its items; a name with ! must be there.
STRINGS = {"*": str}
OTHERS = {
    "cert-manager.io/v1 Certificate": {
        "secretName!": str,
        "dnsNames!": [str],
        "privateKey": {"algorithm": str, "size": int, "rotationPolicy": str},
        "usages": [str],
        "issuerRef!": {"name!": str, "kind": str, "group": str},
    },
    "monitoring.coreos.com/v1 PodMonitor": {
        "jobLabel": str,
        "selector!": {"matchLabels": STRINGS},
        "podMetricsEndpoints!": [{"port!": str, "path": str, "interval": str}],
    },
    "monitoring.coreos.com/v1 PrometheusRule": {
        "groups!": [
            {
                "name!": str,
                "rules!": [{"alert!": str, "expr!": str, "for": str, "labels": STRINGS, "annotations": STRINGS}],
            }
        ]
    },
}


def misfits(value, form, path):
    if isinstance(form, list):
        if not isinstance(value, list) or not value:
            yield f"{path}: not a list, or empty"
        else:
            for index, item in enumerate(value):
                yield from misfits(item, form[0], f"{path}[{index}]")
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            yield f"{path}: not an object"
            return
        known = {name.rstrip("!"): part for name, part in form.items()}
        for name, part in value.items():
            if name not in known and "*" not in known:
                yield f"{path}.{name}: no such field"
            else:
                yield from misfits(part, known.get(name, known.get("*")), f"{path}.{name}")
        for name in form:
            if name.endswith("!") and name[:-1] not in value:
                yield f"{path}.{name[:-1]}: required"
    elif not isinstance(value, form) or (form is int and isinstance(value, bool)):
        yield f"{path}: not of type {form.__name__}"


def problems(thing):
    import kubernetes_validate

    kind = f"{thing.get('apiVersion')} {thing.get('kind')}"
    name = f"{thing.get('kind')}/{thing.get('metadata', {}).get('name')}"
    if kind in OTHERS:
        yield from misfits(thing.get("spec"), OTHERS[kind], f"{name}: spec")
        if set(thing) != {"apiVersion", "kind", "metadata", "spec"}:
            yield f"{name}: fields {sorted(thing)}"
        return
    for version in VERSIONS:
        try:
            judged = kubernetes_validate.validate(thing, version, strict=True)
            if judged != version:
                yield f"{name}: judged by {judged} and not by {version}"
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            yield f"{name}: {version}: {path}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name}: {error.message}"


def told(texts):
    """The objects of YAML texts, with the configs inside them read, once all are sound."""
    objects = [thing for text in texts for thing in yaml.safe_load_all(text) if thing is not None]
    found = [problem for thing in objects for problem in problems(thing)]
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in objects]
    found += [f"{kind}/{name}: there are two" for kind, name in set(names) if names.count((kind, name)) > 1]
    if found:
        raise SystemExit("\n".join(found))
    configs = [thing["data"]["fallgate.yaml"] for thing in objects if "fallgate.yaml" in thing.get("data", {})]
    print(json.dumps({"objects": objects, "configs": [yaml.safe_load(text) for text in configs], "texts": configs}))


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if done.returncode != 0 or done.stderr.strip():
        raise SystemExit(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    told([done.stdout])


def chart(folder, values="{}"):
    import helm_python

    values = json.loads(values)
    helm_python.disable_logging()
    try:
        made = helm_python.Chart.load(folder)
        made.validate_schema(values)
        texts = made.render(values, name="fallgate", namespace="fallgate")
        report = helm_python.lint(folder, values, strict=True, kube_version="v1.30.0")
        said = [message["error"] for message in report["messages"] if message["severity"] >= 2] + report["errors"]
        if said:
            raise SystemExit("\n".join(said))
    except helm_python.HelmError as error:
        raise SystemExit(str(error)) from error
    told(text for name, text in sorted(texts.items()) if name.endswith(".yaml"))


def values(file):
    with open(file, encoding="utf-8") as text:
        print(json.dumps(yaml.safe_load(text)))


if __name__ == "__main__":
    {"kustomize": kustomize, "chart": chart, "values": values}[sys.argv[1]](*sys.argv[2:])
