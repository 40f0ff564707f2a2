"""Groups and manifest of an SDL file, as Akash's own tools write them in JSON. Pure.

For comparison with a rival's and for whoever still deploys there; Sublet's own plan is
made in ``plan``. Oddities are kept: a port without ``as`` is written as 0, an address
used twice counts twice, 2.0 forgets the e-mail address of credentials.
"""

import hashlib
import json
from typing import Any

from sublet.workload.deploy.quantity import find_bytes, find_cpus_milli, format_amount
from sublet.workload.deploy.sdl_type import (
    TRUE,
    Compute,
    Credentials,
    Expose,
    ExposeTo,
    Gpu,
    Params,
    Service,
    Stack,
    StorageAttributes,
    Volume,
    volumes_of,
)

Json = dict[str, Any]

SHARED_HTTP, RANDOM_PORT, LEASED_IP = 0, 1, 2
HTTP_PORT = 80


def make_groups(stack: Stack) -> tuple[list[Json], list[Json]]:
    """Give the manifest and the group specs of a file that was found right."""
    numbers = _number_endpoints(stack)
    manifest: dict[str, Json] = {}
    groups: dict[str, Json] = {}
    bound: dict[tuple[str, str], Json] = {}
    for name in sorted(stack.deployment):
        service = stack.services[name]
        for place in sorted(stack.deployment[name]):
            placed = stack.deployment[name][place]
            compute = stack.profiles.compute[placed.profile]
            group = groups.setdefault(place, _make_group(stack, place))
            _add_tee(group, service.params)
            exposes = _make_exposes(service, numbers)
            endpoints = [one for expose in exposes for one in _endpoints_of(expose)]
            unit = bound.get((place, placed.profile))
            if unit is None or stack.version == "2.0":
                number = len(group["resources"]) + 1
                price = stack.profiles.placement[place].pricing[placed.profile]
                unit = {
                    "resource": _make_resources(compute, number, list(endpoints)),
                    "count": 0,
                    "price": {
                        "denom": price.denom,
                        "amount": format_amount(price.amount),
                    },
                }
                group["resources"].append(unit)
                bound[place, placed.profile] = unit
            else:
                number = unit["resource"]["id"]
                unit["resource"]["endpoints"].extend(endpoints)
                unit["resource"]["endpoints"].sort(key=lambda e: e["sequence_number"])
            unit["count"] += placed.count
            resources = _make_resources(compute, number, endpoints)
            one = _make_service(stack, name, resources, placed.count, exposes)
            manifest.setdefault(place, {"name": place, "services": []})
            manifest[place]["services"].append(one)
    return (
        [manifest[name] for name in sorted(manifest)],
        [groups[name] for name in sorted(groups)],
    )


def compute_version(manifest: list[Json]) -> str:
    """Give the deployment's version: SHA-256 of the manifest's sorted, compact JSON."""
    text = json.dumps(
        manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _number_endpoints(stack: Stack) -> dict[str, int]:
    """Number the addresses, over the sorted list with its duplicates, as Akash does."""
    names = [
        to.ip
        for name in sorted(stack.deployment)
        for expose in stack.services[name].expose or ()
        for to in expose.to
        if not (to.is_global and not to.ip)
    ]
    return {name: number for number, name in enumerate(sorted(names), 1)}


def _make_group(stack: Stack, name: str) -> Json:
    placement = stack.profiles.placement[name]
    signed_by = placement.signed_by
    return {
        "name": name,
        "requirements": {
            "signed_by": {
                "all_of": _listed(signed_by.all_of),
                "any_of": _listed(signed_by.any_of),
            },
            "attributes": _attributes(placement.attributes or {}) or None,
        },
        "resources": [],
    }


def _add_tee(group: Json, params: Params | None) -> None:
    if params is None or params.tee is None:
        return
    attributes = group["requirements"]["attributes"] or []
    if all(one["key"] != "tee/type" for one in attributes):
        attributes = [*attributes, {"key": "tee/type", "value": params.tee}]
        attributes.sort(key=lambda one: one["key"])
        group["requirements"]["attributes"] = attributes


def _listed(texts: tuple[str, ...] | None) -> list[str] | None:
    return None if texts is None else list(texts)


def _attributes(values: dict[str, str]) -> list[Json]:
    return [{"key": key, "value": values[key]} for key in sorted(values)]


# ---- resources --------------------------------------------------------------------


def _make_resources(compute: Compute, number: int, endpoints: list[Json]) -> Json:
    resources = compute.resources
    cpu: Json = {"units": _value(find_cpus_milli(resources.cpu.units))}
    if resources.cpu.attributes and resources.cpu.attributes.arch is not None:
        cpu["attributes"] = _attributes({"arch": resources.cpu.attributes.arch})
    return {
        "id": number,
        "cpu": cpu,
        "memory": {"size": _value(find_bytes(resources.memory.size))},
        "storage": _make_storage(compute),
        "gpu": _make_gpu(resources.gpu),
        "endpoints": endpoints,
    }


def _value(number: int | None) -> Json:
    return {"val": str(number)}


def _make_gpu(gpu: Gpu | None) -> Json:
    if gpu is None:
        return {"units": _value(0)}
    value: Json = {"units": _value(gpu.units)}
    if gpu.attributes is not None:
        keys = []
        for model in gpu.attributes.vendor.nvidia or ():
            key = f"vendor/nvidia/model/{model.model}"
            if model.ram is not None:
                key += f"/ram/{(find_bytes(model.ram) or 0) >> 30}Gi"
            if model.interface is not None:
                key += f"/interface/{model.interface}"
            keys.append(key)
        value["attributes"] = [
            {"key": key, "value": "true"}
            for key in sorted(keys or ["vendor/nvidia/model/*"])
        ]
    return value


def _make_storage(compute: Compute) -> list[Json]:
    is_one = isinstance(compute.resources.storage, Volume)
    rows: list[Json] = []
    for volume in volumes_of(compute):
        row: Json = {
            "name": "default" if is_one else volume.name or "default",
            "size": _value(find_bytes(volume.size)),
        }
        if volume.attributes is not None:
            row["attributes"] = _attributes(storage_attributes(volume.attributes))
        # By insertion, as Go sorts what is short: its order of equals is not that of
        # the file, because the comparison calls each of two equals the lesser one.
        at = len(rows)
        while at and _is_before(row, rows[at - 1]):
            at -= 1
        rows.insert(at, row)
    return rows


def _is_before(one: Json, other: Json) -> bool:
    sizes = int(one["size"]["val"]), int(other["size"]["val"])
    if sizes[0] != sizes[1]:
        return sizes[0] < sizes[1]
    mine, its = _persistence(one), _persistence(other)
    if mine != its:
        return mine < its
    return mine != "true" or bool(one["name"] < other["name"])


def _persistence(row: Json) -> str:
    """Give "" where a volume says nothing about it."""
    values = {each["key"]: each["value"] for each in row.get("attributes", ())}
    return str(values.get("persistent", ""))


def storage_attributes(attributes: StorageAttributes) -> dict[str, str]:
    """Give a volume's attributes with their defaults."""
    is_persistent = attributes.persistent in TRUE
    values = {"persistent": str(is_persistent).lower()}
    if attributes.storage_class is not None or is_persistent:
        values["class"] = attributes.storage_class or "default"
    return values


# ---- services ---------------------------------------------------------------------


def _make_service(
    stack: Stack, name: str, resources: Json, count: int, exposes: list[Json]
) -> Json:
    service = stack.services[name]
    made: Json = {
        "name": name,
        "image": service.image,
        "command": _listed(service.command),
        "args": _listed(service.args),
        "env": _listed(service.env),
        "resources": resources,
        "count": count,
        "expose": exposes,
        "credentials": _make_credentials(service.credentials, stack.version),
    }
    if service.params is not None:
        made["params"] = _make_params(service.params)
    return made


def _make_params(params: Params) -> Json:
    storage = params.storage or {}
    made: Json = {
        "storage": [
            {
                "name": name,
                "mount": storage[name].mount,
                "readOnly": storage[name].read_only,
            }
            for name in sorted(storage)
        ]
        or None
    }
    if params.permissions is not None:
        read = list(params.permissions.read)
        made["permissions"] = {"read": read} if read else {}
    if params.tee is not None:
        made["tee"] = {"type": params.tee, "attestation": True}
    return made


def _make_credentials(given: Credentials | None, version: str) -> Json | None:
    if given is None:
        return None
    values = {
        "host": given.host,
        "email": given.email,
        "username": given.username,
        "password": given.password,
    }
    if version == "2.0":
        return values | {"email": ""}
    return {key: value.strip() for key, value in values.items()}


def _make_exposes(service: Service, numbers: dict[str, int]) -> list[Json]:
    made = [
        _make_expose(expose, to, numbers)
        for expose in service.expose or ()
        for to in expose.to or (ExposeTo(),)
    ]
    made.sort(key=lambda e: (e["service"], e["port"], e["proto"], not e["global"]))
    return made


def _make_expose(expose: Expose, to: ExposeTo, numbers: dict[str, int]) -> Json:
    options = expose.http_options
    http: Json = {
        "maxBodySize": options.max_body_size or 1_048_576,
        "readTimeout": options.read_timeout or 60_000,
        "sendTimeout": options.send_timeout or 60_000,
        "nextTries": options.next_tries or 3,
        "nextTimeout": options.next_timeout,
        "nextCases": list(options.next_cases or ("error", "timeout")),
    }
    if options.proxy_buffer_size:
        http["proxyBufferSize"] = options.proxy_buffer_size
    is_leased = to.is_global and to.ip
    return {
        "port": expose.port,
        "externalPort": expose.external_port,
        "proto": expose.proto.upper(),
        "service": to.service,
        "global": to.is_global,
        "hosts": _listed(expose.accept),
        "httpOptions": http,
        "ip": to.ip,
        "endpointSequenceNumber": numbers.get(to.ip, 0) if is_leased else 0,
    }


def _endpoints_of(expose: Json) -> list[Json]:
    if not expose["global"]:
        return []
    number = expose["externalPort"] or expose["port"]
    is_http = expose["proto"] == "TCP" and number == HTTP_PORT
    kind = SHARED_HTTP if is_http else RANDOM_PORT
    made: list[Json] = [_endpoint(kind, 0)]
    if expose["ip"]:
        made.append(_endpoint(LEASED_IP, expose["endpointSequenceNumber"]))
    return sorted(made, key=lambda one: one["sequence_number"])


def _endpoint(kind: int, number: int) -> Json:
    # As protobuf writes it: what is 0 is left out, the number is not.
    return ({"kind": kind} if kind else {}) | {"sequence_number": number}
