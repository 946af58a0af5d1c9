"""Reads and checks a model's `config.yml`."""

from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any

import yaml
from pydantic import ValidationError

from deployments.config.errors import ConfigError, describe_errors
from deployments.config.folder_contents import problem_with
from deployments.config.model_config import ModelConfig
from deployments.config.serve_options import check_deployment
from deployments.config.strict_yaml import StrictLoader, load

CONFIG = "config.yml"
MAX_CONFIG = 64 * 1024
READ_AS_TEXT = {"hf_model", "hf_model_revision", "hf_revision"}
ENVIRONMENT = "env_vars"
NULL, STRING = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


class _PlainLoader(StrictLoader):
    """Loads YAML without aliases, with which a few lines can expand to millions, and keeps names as text.

    A revision may consist of digits, and YAML reads 0123456 as the number 42798. The values of environment
    variables are always text.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (`*name`) are not accepted", problem_mark=mark)
        node = super().compose_node(parent, index)
        key = index.value if isinstance(index, yaml.ScalarNode) else None
        if key in READ_AS_TEXT:
            _keep_as_text(node)
        elif key == ENVIRONMENT and isinstance(node, yaml.MappingNode):
            for part in chain.from_iterable(node.value):
                _keep_as_text(part)
        return node


def _keep_as_text(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag != NULL:
        node.tag = STRING


def read(folder: Path) -> ModelConfig:
    """Read `folder`'s config.yml. Raises `ConfigError`."""
    path = folder / CONFIG
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode) or stat.st_size > MAX_CONFIG:
            raise ConfigError(f"must be a file of at most {MAX_CONFIG // 1024} KiB")
        content = load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise ConfigError(f"{_short(path)}: the file is missing") from None
    except UnicodeDecodeError as undecodable:
        line = undecodable.object.count(b"\n", 0, undecodable.start) + 1
        raise ConfigError(f"{_short(path)}: line {line} is not UTF-8") from None
    except OSError as unreadable:
        raise ConfigError(f"{_short(path)}: cannot be read: {unreadable.strerror}") from None
    except ConfigError as broken:
        raise ConfigError(f"{_short(path)}: {broken}") from None
    config = parse(content, _short(path))
    if problem := problem_with(folder, names_model=config.hf_model is not None):
        raise ConfigError(f"{folder.name}: {problem}")
    return config


def parse(content: Any, source: str) -> ModelConfig:
    """Check the content of a config. `source` names it in errors. Raises `ConfigError`."""
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must be a mapping with a `module_id`")
    try:
        config = ModelConfig.model_validate(content)
        check_deployment(config.deployment)
    except ValidationError as invalid:
        raise ConfigError(f"{source}: {describe_errors(invalid, ModelConfig)}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if config.trust_remote_code and not config.hf_model_revision:
        raise ConfigError(f"{source}: `trust_remote_code` needs a pinned `hf_model_revision`")
    if config.engine.device == "cuda" and not _num_gpus(config.deployment):
        wanted = "`deployment: {ray_actor_options: {num_gpus: 1}}`, or a share of one"
        raise ConfigError(f"{source}: `engine.device: cuda` needs a GPU: {wanted}")
    return config


def _num_gpus(deployment: dict[str, Any]) -> float:
    return float((deployment.get("ray_actor_options") or {}).get("num_gpus") or 0)


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])
