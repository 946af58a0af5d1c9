"""A config.yml is checked where it is read; each error names file, field and, if there is one, the remedy."""

from pathlib import Path
from typing import Any

import pytest

from deployments.catalog.deployment_options import options
from deployments.config import yaml_file as config
from deployments.config.errors import ConfigError
from deployments.task import MODULES

ID = "FADC770C-25C8-4685-A176-51FF67B382C1"
WRITER = "9E42606B-34A8-4D4C-9B6C-6F66DAD8EC5A"


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(text)
    return folder


def test_module_id_alone_is_a_config(tmp_path: Path) -> None:
    read = config.read(write(tmp_path / "m", f"module_id: {ID}"))
    assert read.module is MODULES[ID]
    assert read.checkpoint(tmp_path / "m").name == MODULES[ID].default_model


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping"),
        ("module_id: [", "m/config.yml: line 1, column 13: "),
        (f"module_id: {ID}\nmodule_id: {ID}", "line 2, column 1: the key `module_id` is there twice"),
        (
            f"module_id: {ID}\nengine:\n  dtype: float32\n  dtype: float16",
            "line 4, column 3: the key `dtype` is there twice, first in line 3",
        ),
        (f"module_id: {ID}\nengine: &e {{}}\nbatching: *e", "line 3, column 11: aliases (`*name`)"),
        ("hf_model: a/b", "`module_id`: Field required"),
        ("module_id: nope", "`module_id`: no module has the id 'nope'"),
        (f"module_id: {ID}\nhf_modle: a/b", "`hf_modle` is an unknown field; did you mean `hf_model`?"),
        (f"module_id: {ID}\nbatching: {{max_batch_size: 0}}", "`batching.max_batch_size`"),
        (f"module_id: {ID}\nengine: {{dtype: float99}}", "`engine.dtype`"),
        (
            f"module_id: {ID}\nengine: {{name: triton}}",
            "`engine.name`: sentiment runs on torch or openvino only",
        ),
        (
            f"module_id: {WRITER}\nengine: {{name: triton}}",
            "runs on torch or openvino or vllm only",
        ),
        (
            f"module_id: {ID}\nengine: {{name: vllm}}",
            "`engine.name`: sentiment runs on torch or openvino only",
        ),
        (
            f"module_id: {WRITER}\nengine: {{options: {{max_model_len: 9}}}}",
            "`engine.options` are for vLLM only",
        ),
        (
            f"module_id: {ID}\nengine: {{name: openvino, device: cuda}}",
            "`engine.device`: OpenVINO runs on the CPU only",
        ),
        (
            f"module_id: {ID}\nengine: {{name: openvino, options: {{a: 9}}}}",
            "`engine.options` are for vLLM only; `engine.name` is openvino",
        ),
        (
            f"module_id: {WRITER}\nengine: {{name: vllm}}\nbatching: {{max_batch_size: 9}}",
            "`batching` does not apply to vLLM; set its own limits in `engine.options`",
        ),
        (f"module_id: {ID}\ndeployment: {{num_replica: 2}}", "did you mean `num_replicas`?"),
        (f"module_id: {ID}\ndeployment: {{num_replicas: 0}}", "`deployment.num_replicas"),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{num_gpu: 1}}}}",
            "`deployment.ray_actor_options.num_gpu` is no option of Ray Serve; did you mean `num_gpus`?",
        ),
        (
            f"module_id: {ID}\ndeployment: {{autoscaling_config: {{min_replicas: 3, max_replicas: 1}}}}",
            "`deployment.autoscaling_config`: max_replicas (1)",
        ),
        (f"module_id: {ID}\ndeployment: {{name: other}}", "`deployment.name`"),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{num_cpus: two}}}}",
            "`deployment.ray_actor_options.num_cpus`: Input should be a valid number",
        ),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{num_gpus: '0.5'}}}}",
            "`deployment.ray_actor_options.num_gpus` must be a number, not the text '0.5'",
        ),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{runtime_env: {{working_dir: 3}}}}}}",
            "`deployment.ray_actor_options.runtime_env`: `working_dir` must be a string",
        ),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{runtime_env: {{pip: 3}}}}}}",
            "`deployment.ray_actor_options.runtime_env`: runtime_env['pip'] must be of type",
        ),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{runtime_env: [a]}}}}",
            "`deployment.ray_actor_options.runtime_env`: Input should be a valid dictionary",
        ),
        (
            f"module_id: {ID}\ndeployment: {{ray_actor_options: {{num_cpus: .inf}}}}",
            "`deployment.ray_actor_options.num_cpus` must be a finite number",
        ),
        (f"module_id: {ID}\nengine: {{device: cuda}}", "`engine.device: cuda` needs a GPU: `deployment: "),
        (
            f"module_id: {ID}\nengine: {{device: cuda}}\ndeployment: {{ray_actor_options: {{num_gpus: 0}}}}",
            "`engine.device: cuda` needs a GPU: `deployment: {ray_actor_options: {num_gpus: 1}}`",
        ),
        (f"module_id: {ID}\ntrust_remote_code: true", "needs a pinned `hf_model_revision`"),
    ],
)
def test_an_error_names_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.read(write(tmp_path / "m", text))
    assert "m/config.yml" in str(error.value)
    assert said in str(error.value)


def test_serve_options_pass_through(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "autoscaling_config": {"min_replicas": 0, "max_replicas": 8},
        "max_queued_requests": 200,
        "ray_actor_options": {"num_gpus": 0.25},
    }
    assert config.parse({"module_id": ID, "deployment": options}, "here").deployment == options


@pytest.mark.parametrize("key", ["hf_model", "hf_model_revision", "hf_revision"])
@pytest.mark.parametrize("written", ["0123456", "0b10110", "1_000", "1.10", "1234567", "2024-01-01"])
def test_revision_of_digits_stays_text(tmp_path: Path, key: str, written: str) -> None:
    read = config.read(write(tmp_path / "m", f"module_id: {ID}\n{key}: {written}"))
    assert written in (read.hf_model, read.hf_model_revision)
    assert config.read(write(tmp_path / "m", f"module_id: {ID}\n{key}: null")).hf_model_revision is None


def test_number_for_a_revision_asks_for_quotes() -> None:
    with pytest.raises(ConfigError, match=r"`hf_model_revision`: .* put it in quotes"):
        config.parse({"module_id": ID, "hf_model_revision": 42798}, "args")


@pytest.mark.parametrize(
    "example", sorted(Path("example_models").glob("*/config.yml")), ids=lambda path: path.parent.name
)
def test_example_models_are_valid(example: Path) -> None:
    config.read(example.parent)


def test_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "")
    (folder / "config.yml").write_bytes(f"module_id: {ID}\n# caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"m/config.yml: line 2 is not UTF-8"):
        config.read(folder)


def with_environment(variables: str) -> str:
    runtime_env = f"{{env_vars: {variables}}}"
    return f"module_id: {ID}\ndeployment: {{ray_actor_options: {{runtime_env: {runtime_env}}}}}"


@pytest.mark.parametrize(
    "written", ["1", "0x10", "0123", "1.10", "1e3", "true", "off", "2024-01-01", "'4'", "a b"]
)
def test_environment_variables_have_the_text_that_is_written(tmp_path: Path, written: str) -> None:
    read = config.read(write(tmp_path / "m", with_environment(f"{{A: {written}, NO: {written}}}")))
    variables = read.deployment["ray_actor_options"]["runtime_env"]["env_vars"]
    assert variables == dict.fromkeys(["A", "NO"], written.strip("'"))
    assert options(read.deployment)["ray_actor_options"]["runtime_env"]["env_vars"]["A"] == written.strip("'")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("{A: null}", "env_vars.A` must be a text, not None; put it in quotes"),
        ("{A: }", "env_vars.A` must be a text, not None"),
        ("{A: [1]}", "env_vars.A` must be a text, not [1]"),
        ("{A: {b: 1}}", "env_vars.A` must be a text"),
        ('{A: "\\0"}', "env_vars.A` must be a text"),
        ("{A=B: x}", "'A=B' cannot be the name of an environment variable"),
        ("{null: x}", "None cannot be the name of an environment variable"),
        ("{'': x}", "'' cannot be the name of an environment variable"),
        ("[A, B]", "env_vars` must be a mapping of names to texts"),
        ("3", "env_vars` must be a mapping of names to texts"),
        ("null", "env_vars` must be a mapping of names to texts"),
    ],
)
def test_error_in_environment_variables_names_file_and_field(
    tmp_path: Path, variables: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        config.read(write(tmp_path / "m", with_environment(variables)))
    assert "m/config.yml: `deployment.ray_actor_options.runtime_env." in str(error.value)
    assert said in str(error.value)


def test_number_in_parsed_environment_variables_asks_for_quotes() -> None:
    actor_options = {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": 1}}}
    with pytest.raises(
        ConfigError, match=r"args: .*env_vars\.OMP_NUM_THREADS` must be a text, not 1; put it in quotes"
    ):
        config.parse({"module_id": ID, "deployment": {"ray_actor_options": actor_options}}, "args")
