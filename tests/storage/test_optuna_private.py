"""What is used of Optuna though it is private is as the package expects it; each message says what has changed."""

import ast
import inspect
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pneumosearch.search.samplers import LegibleCmaEsSampler, SharingTPESampler
from pneumosearch.storage import optuna_private_grpc
from pneumosearch.storage.grpc_client import ProxyStorage
from pneumosearch.storage.optuna_private import METHODS, enqueued_values, running_trial, study_id, trial_id
from pneumosearch.storage.retry import RetryingStorage
from tests.conftest import ROOT

NOW = f"Optuna {optuna.__version__} has changed what pneumosearch uses though it is private"
CHILDREN = (RetryingStorage, ProxyStorage, LegibleCmaEsSampler, SharingTPESampler)


def optuna_class(name: str) -> type:
    found: type = getattr(getattr(optuna, name.split(".")[1]), name.split(".")[2])
    return found


@pytest.mark.parametrize(("owner", "method"), [(owner, method) for owner in METHODS for method in METHODS[owner]])
def test_private_method_takes_what_it_took(owner: str, method: str) -> None:
    found = getattr(optuna_class(owner), method, None)
    assert found is not None, f"{NOW}: {owner}.{method} is gone"
    arguments = tuple(inspect.signature(found).parameters)
    assert arguments == METHODS[owner][method], f"{NOW}: {owner}.{method} takes {arguments}"


@pytest.mark.parametrize("child", CHILDREN, ids=lambda child: child.__name__)
def test_every_overridden_private_member_is_in_the_list(child: type) -> None:
    overridden = {
        name
        for parent in child.__mro__[1:]
        if parent.__module__.startswith("optuna.")
        for name in vars(child).keys() & vars(parent).keys()
        if name.startswith("_") and not name.startswith("__") and name != "_abc_impl"
    }
    assert overridden <= {method for methods in METHODS.values() for method in methods}


def test_trials_and_studies_have_identifiers_by_which_their_storage_finds_them() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"zoom": 0.25})
    trial = study.ask()
    storage = trial.storage
    assert storage.get_study_name_from_id(study_id(study)) == study.study_name, NOW
    assert study_id(storage.get_all_studies()[0]) == study_id(study), NOW
    assert storage.get_trial(trial_id(trial)).number == trial.number, NOW
    assert trial_id(study.trials[0]) == trial_id(trial), NOW


def test_running_trial_goes_on_where_its_process_left_it() -> None:
    study = optuna.create_study()
    study.ask().report(0.5, 1)
    trial = running_trial(study, study.trials[0])
    trial.report(0.75, 2)
    study.tell(trial, 1.0)
    (ended,) = study.trials
    assert (ended.state, ended.intermediate_values) == (TrialState.COMPLETE, {1: 0.5, 2: 0.75}), NOW


def test_enqueued_values_are_told_apart_from_sampled_ones() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"zoom": 0.25})
    for _ in range(2):
        study.ask().suggest_float("zoom", 0, 1)
    assert [enqueued_values(trial) for trial in study.trials] == [{"zoom": 0.25}, None], NOW


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("api_pb2_grpc", ("StorageServiceStub", "add_StorageServiceServicer_to_server")),
        ("api_pb2", ("CreateNewTrialRequest", "CreateNewTrialReply", "SetTrialParameterRequest")),
        ("OptunaStorageProxyService", ("CreateNewTrial", "SetTrialParameter")),
        ("GrpcClientCache", ("get_all_trials",)),
    ],
)
def test_service_of_grpc_has_its_members(name: str, members: tuple[str, ...]) -> None:
    missing = [member for member in members if not hasattr(getattr(optuna_private_grpc, name), member)]
    assert not missing, f"{NOW}: {name} has no {', '.join(missing)}"


def private_modules(code: str) -> list[str]:
    """Give the private modules of Optuna that code imports."""
    nodes = list(ast.walk(ast.parse(code)))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return [module for module in modules if module.startswith("optuna.") and "._" in module]


def private_members(code: str) -> list[str]:
    """Give the identifiers of Optuna that code reads from an object that is not its own."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    return [node.attr for node in nodes if node.attr in ("_trial_id", "_study_id", "_storage") and not _own(node)]


def _own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pneumosearch").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_private_parts_of_optuna_are_used_in_their_modules_only(path: Path) -> None:
    if path.stem in ("optuna_private", "optuna_private_grpc"):
        return
    code = path.read_text(encoding="utf-8")
    assert private_modules(code) + private_members(code) == []
