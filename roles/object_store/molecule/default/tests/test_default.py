"""An object store that keeps what it is given, for those who have a key, and is repaired when somebody changed it."""

import json

CLIENT = """
import boto3, hashlib, json, sys
from botocore.exceptions import ClientError
secrets = json.loads(sys.argv[1])
def client(access, secret):
    return boto3.client("s3", endpoint_url="https://svc01.base:7480", region_name="us-east-1", verify="/etc/dpp/tls/ca.crt",
                        aws_access_key_id=access, aws_secret_access_key=secret)
def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
s3, report = (client(user, secrets[user]) for user in ("forwarder", "report"))
body, key = bytes(range(256)) * 4096, "LSSTCam/20160101/c.fits"
put = s3.put_object(Bucket="raw", Key=key, Body=body, ChecksumAlgorithm="SHA256", Metadata={"visit": "1"})
got = report.get_object(Bucket="raw", Key=key, ChecksumMode="ENABLED")
same = hashlib.sha256(got["Body"].read()).hexdigest() == hashlib.sha256(body).hexdigest()
print(json.dumps({"same": same, "sha256": put["ChecksumSHA256"], "got": got["ChecksumSHA256"], "metadata": got["Metadata"], "refused": [
    refused(s3.put_object, Bucket="raw", Key="elsewhere/c.fits", Body=b""),
    refused(report.put_object, Bucket="raw", Key=key, Body=b""),
    refused(s3.create_bucket, Bucket="own"),
    refused(client("forwarder", "wrong").list_buckets),
    refused(client("nobody", "wrong").list_buckets),
]}))
"""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("object-store")
    assert service.is_running
    assert service.is_enabled


def test_objects_come_back_whole_and_who_may_not_is_refused(host):
    users = json.loads(host.file("/srv/object-store/iam/users.json").content_string)["accessAccounts"]
    secrets = json.dumps({user: account["secret"] for user, account in users.items()})
    result = json.loads(host.check_output("python3 -c %s %s", CLIENT, secrets))
    assert result["same"]
    assert result["sha256"] == result["got"]
    assert result["metadata"] == {"visit": "1"}
    assert result["refused"] == [*["AccessDenied"] * 3, "SignatureDoesNotMatch", "InvalidAccessKeyId"]


def test_drift_was_repaired(host):
    assert "VGW_QUIET=true" in host.file("/etc/object-store/environment").content_string


def test_secrets_are_their_owners(host):
    assert host.file("/etc/object-store/environment").mode == 0o600
    assert host.file("/srv/object-store/iam/users.json").mode == 0o600


def test_only_tls_is_spoken(host):
    assert host.run("curl -s --max-time 5 http://svc01.base:7480/health").rc != 0
    assert (
        host.check_output("curl -s --max-time 5 https://svc01.base:7480/health -o /dev/null -w '%{http_code}'") == "200"
    )
