"""Checks the files of ops/ that other programs read against the schemas of those programs.

Usage: check_manifests.py OPS
"""

import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml

KUBERNETES = "1.34"


def main() -> None:
    ops = pathlib.Path(sys.argv[1])
    compose = ops / "compose" / "compose.yaml"
    schema = ["--builtin-schema", "vendor.compose-spec"]
    subprocess.run([sys.executable, "-m", "check_jsonschema", *schema, compose], check=True)
    # Kustomize reads this one; its schema is in no release of Kubernetes.
    others = {"kustomization.yaml"}
    resources = yaml.safe_load((ops / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    found = {path.name for path in (ops / "kubernetes").glob("*.yaml")} - others
    if found != set(resources):
        raise SystemExit(f"kustomization.yaml names {sorted(resources)}, there are {sorted(found)}")
    for name in sorted(found):
        for document in yaml.safe_load_all((ops / "kubernetes" / name).read_text()):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
            print(f"{name}: {document['kind']} {document['metadata']['name']}")


main()
