"""The recipes for clusters: their syntax, and that what they call is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pneumosearch.studyfile import NAME_PATTERN, read_study_file
from tests.conftest import ROOT

SLURM = ROOT / "docs" / "slurm-array.sh"
KUBERNETES = ROOT / "docs" / "kubernetes-job.yaml"


def pretended_pneumosearch(folder: Path) -> dict[str, str]:
    """An environment whose pneumosearch prints how it was called."""
    program = folder / "pneumosearch"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "PNEUMOSEARCH_STORAGE": "postgresql://host/studies"}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_slurm_array_begins_the_study_in_its_first_task_and_joins_in_the_others(tmp_path: Path) -> None:
    environment = pretended_pneumosearch(tmp_path)
    command = ["bash", str(SLURM), "studies/wide.toml", "200"]
    assert run(command, {**environment, "SLURM_ARRAY_TASK_ID": "0"}) == "study studies/wide.toml --trials 200"
    assert run(command, {**environment, "SLURM_ARRAY_TASK_ID": "7"}) == "worker --name wide --wait 30m"
    options = re.findall(r"^#SBATCH (--[a-z-]+)=?(\S*)$", SLURM.read_text(), re.MULTILINE)
    assert len(options) == SLURM.read_text().count("\n#SBATCH ")
    assert dict(options)["--array"] == "0-15"
    del environment["PNEUMOSEARCH_STORAGE"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False, cwd=ROOT).returncode != 0


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_kubernetes_job_begins_the_study_in_its_first_pod_and_joins_in_the_others(tmp_path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # as a limit of failures by index demands
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (tmp_path / "study.toml").write_text((ROOT / "studies" / "wide.toml").read_text())
    script = container["args"][0].replace("/study/", f"{tmp_path}/")
    environment = pretended_pneumosearch(tmp_path)
    command = [*container["command"], script]
    first = run(command, {**environment, "JOB_COMPLETION_INDEX": "0"})
    assert first == f"study {tmp_path}/study.toml --trials 200 --results /results"
    other = run(command, {**environment, "JOB_COMPLETION_INDEX": "5"})
    assert other == "worker --name wide --wait 30m --results /results"


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_recipes_read_the_name_of_every_study_file(path: Path) -> None:
    [name] = re.findall(r'^name *= *"(.*)"$', path.read_text(), re.MULTILINE)
    assert name == read_study_file(path).name
    assert re.match(NAME_PATTERN, name)
