"""The calls that the Catalog makes to Ray Serve."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve

from deployments.catalog.applications import bind
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.model_status import starting_replicas
from deployments.cluster.nodes import NodeResources, node_resources
from deployments.cluster.ray_private import controller
from deployments.cluster.ray_private.startup_phase import read_phase


class ServeClient:
    """Deploys and deletes applications, and reads what runs."""

    async def details(self) -> dict[str, Any]:
        """Return every application as Serve details it, by name."""
        return await controller.serve_details()

    async def statuses(self) -> list[bytes]:
        """Return the status of each deployment, to compare with an earlier one."""
        return await controller.serve_statuses()

    async def nodes(self) -> NodeResources:
        """Return what the nodes can give to a replica."""
        return await asyncio.to_thread(node_resources)

    async def phases(self, apps: Mapping[str, dict[str, Any]]) -> dict[str, str]:
        """Return what the starting replica of each application does, by the name of the application."""
        starting = {id: replicas for id, app in apps.items() if (replicas := starting_replicas(app))}
        return await asyncio.to_thread(_phases, starting) if starting else {}

    async def deploy(self, folders: Sequence[ModelFolder], surge: bool) -> None:
        """Deploy the application of each folder, without waiting until it runs."""
        await asyncio.to_thread(_run, folders, surge)

    async def delete(self, ids: list[str]) -> None:
        """Delete applications, without waiting until they are gone."""
        await asyncio.to_thread(controller.delete, ids)


def _phases(starting: dict[str, set[str]]) -> dict[str, str]:
    return {id: phase for id, replicas in starting.items() if (phase := read_phase(id, replicas))}


def _run(folders: Sequence[ModelFolder], surge: bool) -> None:
    targets = [
        serve.RunTarget(
            bind(
                folder.config,
                folder.path,
                folder.files,
                surge=surge,
                failed=folder.failed,
                previous=folder.previous,
            ),
            folder.id,
            route_prefix=None,
        )
        for folder in folders
        if folder.config
    ]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
