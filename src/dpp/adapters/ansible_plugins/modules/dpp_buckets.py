"""Ansible module that makes the buckets of an object store."""

from __future__ import annotations

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
short_description: Make the buckets of an object store
description:
  - Makes those buckets that are missing, and deletes none.
  - Waits for a service that is still starting. Supports check mode and diff.
options:
  endpoint: {description: URL of the service., type: str, required: true}
  region: {description: Region to sign requests for., type: str, default: us-east-1}
  authorities: {description: File of authorities that the service's certificate must chain to., type: path, required: true}
  access: {description: Access key of the buckets' owner., type: str, required: true}
  secret: {description: Its secret key., type: str, required: true}
  buckets: {description: Names of the buckets., type: list, elements: str, required: true}
  patience: {description: Seconds to wait for the service., type: int, default: 60}
"""

EXAMPLES = """
- ansible.legacy.dpp_buckets:
    endpoint: https://st01.summit:7480
    authorities: /etc/dpp/tls/ca.crt
    access: workloads
    secret: "{{ object_store_secret }}"
    buckets: [raw]
"""

RETURN = """
created:
  description: The buckets that were missing.
  returned: always
  type: list
"""

OPTIONS = {
    "endpoint": {"type": "str", "required": True},
    "region": {"type": "str", "default": "us-east-1"},
    "authorities": {"type": "path", "required": True},
    "access": {"type": "str", "required": True},
    "secret": {"type": "str", "required": True, "no_log": True},
    "buckets": {"type": "list", "elements": "str", "required": True},
    "patience": {"type": "int", "default": 60},
}


def main() -> None:
    """Make the buckets that are missing."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if boto3 is None:
        module.fail_json(msg="python3-boto3 is not installed on this host")
    wanted, client = set(module.params["buckets"]), _client(module.params)
    try:
        present = _present(client, 0 if module.check_mode else module.params["patience"])
    except (BotoCoreError, ClientError) as error:
        if not module.check_mode:
            module.fail_json(msg=f"{module.params['endpoint']}: {error}")
        present = set()  # a service that is still to be started has none
    missing = sorted(wanted - present)
    for name in [] if module.check_mode else missing:
        try:
            client.create_bucket(Bucket=name)
        except (BotoCoreError, ClientError) as error:
            module.fail_json(msg=f"bucket {name}: {error}")
    after = sorted(wanted | present)
    module.exit_json(
        changed=bool(missing), created=missing, diff={"before": _text(sorted(present)), "after": _text(after)}
    )


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


def _text(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


if __name__ == "__main__":
    main()
