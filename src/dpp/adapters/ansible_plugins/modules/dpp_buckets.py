"""Ansible module that makes the buckets of an object store, and says who may do what with their objects."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    boto3 = None

DOCUMENTATION = """
module: dpp_buckets
short_description: Make the buckets of an object store, and say who may do what with their objects
description:
  - Makes those buckets that are missing, and deletes none but those that are named as retired, with their objects.
  - Gives every bucket of the store its policy; one that no policy is named for has none, so that nobody but its owner
    may use it.
  - Waits for a service that is still starting. Supports check mode and diff.
options:
  endpoint: {description: URL of the service., type: str, required: true}
  region: {description: Region to sign requests for., type: str, default: us-east-1}
  authorities: {description: File of authorities that the service's certificate must chain to; without it as the system has them., type: path}
  access: {description: Access key of the buckets' owner., type: str, required: true}
  secret: {description: Its secret key., type: str, required: true}
  buckets: {description: Names of the buckets., type: list, elements: str, required: true}
  retired: {description: Names of buckets that are deleted with their objects., type: list, elements: str, default: []}
  policies: {description: Policies by bucket; accounts that they name must exist., type: dict, default: {}}
  patience: {description: Seconds to wait for the service., type: int, default: 60}
"""

EXAMPLES = """
- ansible.legacy.dpp_buckets:
    endpoint: https://st01.summit:7480
    authorities: /etc/dpp/tls/ca.crt
    access: root
    secret: "{{ object_store_root_secret }}"
    buckets: [raw]
    policies: {raw: {Version: "2012-10-17", Statement: []}}
"""

RETURN = """
changes:
  description: What was or would be changed, one sentence each.
  returned: always
  type: list
"""

OPTIONS = {
    "endpoint": {"type": "str", "required": True},
    "region": {"type": "str", "default": "us-east-1"},
    "authorities": {"type": "path"},
    "access": {"type": "str", "required": True},
    "secret": {"type": "str", "required": True, "no_log": True},
    "buckets": {"type": "list", "elements": "str", "required": True},
    "retired": {"type": "list", "elements": "str", "default": []},
    "policies": {"type": "dict", "default": {}},
    "patience": {"type": "int", "default": 60},
}
_NO_POLICY = "NoSuchBucketPolicy"


def main() -> None:
    """Make the buckets that are missing and bring all policies to what they are to be."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if boto3 is None:
        module.fail_json(msg="python3-boto3 is not installed on this host")
    wanted, client = module.params, _client(module.params)
    changes: list[str] = []
    try:
        present = _present(client, 0 if module.check_mode else wanted["patience"])
        for name in sorted(set(wanted["buckets"]) - present):
            changes.append(f"bucket {name}: made")
            if not module.check_mode:
                client.create_bucket(Bucket=name)
        for name in sorted(present & set(wanted["retired"])):
            changes.append(f"bucket {name}: deleted with its objects")
            if not module.check_mode:
                _delete(client, name)
        for name in sorted(present - set(wanted["retired"]) | set(wanted["buckets"])):
            known = name in present or not module.check_mode
            changes += _policy(client, name, wanted["policies"].get(name), known=known, check=module.check_mode)
    except (BotoCoreError, ClientError) as error:
        if not module.check_mode:
            module.fail_json(msg=f"{wanted['endpoint']}: {error}", changes=changes)
        changes.append("all: the service does not answer yet")
    text = "".join(f"{change}\n" for change in changes)
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": "", "after": text})


def _delete(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)


def _policy(client: Any, bucket: str, wanted: dict[str, Any] | None, *, known: bool, check: bool) -> list[str]:
    """Give a bucket its policy, or take away what it has; return what was changed."""
    found = _found(client, bucket) if known else None
    if _canonical(found) == _canonical(wanted):
        return []
    if wanted is None:
        if not check:
            client.delete_bucket_policy(Bucket=bucket)
        return [f"bucket {bucket}: policy taken away"]
    if not check:
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(wanted))
    before, after = ({json.dumps(one, sort_keys=True) for one in _statements(policy)} for policy in (found, wanted))
    return [
        *(f"bucket {bucket}: taken away {one}" for one in sorted(before - after)),
        *(f"bucket {bucket}: granted {one}" for one in sorted(after - before)),
    ] or [f"bucket {bucket}: policy written anew"]


def _found(client: Any, bucket: str) -> dict[str, Any] | None:
    try:
        policy: dict[str, Any] = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        if error.response["Error"]["Code"] == _NO_POLICY:
            return None
        raise
    return policy


def _statements(policy: dict[str, Any] | None) -> list[dict[str, Any]]:
    return list(policy["Statement"]) if policy else []


def _canonical(policy: dict[str, Any] | None) -> list[str] | None:
    """Return the statements of a policy in an order of their own: theirs means nothing."""
    return None if policy is None else sorted(json.dumps(one, sort_keys=True) for one in policy["Statement"])


def _client(parameters: dict[str, Any]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=parameters["endpoint"],
        region_name=parameters["region"],
        aws_access_key_id=parameters["access"],
        aws_secret_access_key=parameters["secret"],
        verify=parameters["authorities"],
        config=Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def _present(client: Any, patience: float) -> set[str]:
    end = time.monotonic() + patience
    while True:
        try:
            return {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        except (BotoCoreError, ClientError):
            if time.monotonic() >= end:
                raise
            time.sleep(1)


if __name__ == "__main__":
    main()
