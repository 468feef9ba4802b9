# SPDX-License-Identifier: Apache-2.0
"""The control API with botocore: each answer is held against the public service model, outputs
with their required members, lengths, ranges, patterns and enums. Prints TAP.

Run by python.test.mjs, which knows whether a botocore with these models is installed."""

import os
import re
import sys
import time

import botocore.session
from botocore.exceptions import ClientError

session = botocore.session.get_session()
region = os.environ["AWS_REGION"]
account = "000000000000"
stamp = "py%x" % int(time.time() * 1000)
base = f"arn:aws:lambda:{region}:aws:microvm-image:al2023-1"
role = f"arn:aws:iam::{account}:role/dormouse"
vms = session.create_client("lambda-microvms")
core = session.create_client("lambda-core", endpoint_url=os.environ["DORMOUSE_URL"])
done = failed = 0


def faults(shape, value, at):
    """What an output has that its model does not allow."""
    meta = shape.metadata
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"{at}.{name} is missing"
        for name, member in shape.members.items():
            if name in value:
                yield from faults(member, value[name], f"{at}.{name}")
    elif shape.type_name == "list":
        for i, item in enumerate(value):
            yield from faults(shape.member, item, f"{at}[{i}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from faults(shape.key, key, f"{at} key")
            yield from faults(shape.value, item, f"{at}.{key}")
    elif shape.type_name == "string":
        if meta.get("enum") and value not in meta["enum"]:
            yield f"{at}: {value} is none of {meta['enum']}"
        if "pattern" in meta and value and not matches(meta["pattern"], value):
            yield f"{at}: {value} does not match {meta['pattern']}"
    size = len(value) if hasattr(value, "__len__") else value
    if isinstance(size, (int, float)) and not isinstance(value, bool):
        if size < meta.get("min", size) or size > meta.get("max", size):
            yield f"{at}: {value} is out of range"


def matches(pattern, value):
    if r"\p" in pattern:  # Python knows no Unicode classes
        return True
    return re.fullmatch(pattern, value) is not None


# The managed connectors' ARNs have "aws" as their account, the model wants digits; their type is
# none that others can have.
KNOWN = re.compile(r"network-connector:aws-network-connector|MANAGED")


def call(client, operation, **members):
    answer = getattr(client, operation)(**members)
    answer.pop("ResponseMetadata")
    model = client.meta.service_model
    name = client.meta.method_to_api_mapping[operation]
    shape = model.operation_model(name).output_shape
    if shape is not None:
        bad = [f for f in faults(shape, answer, name) if not KNOWN.search(f)]
        if bad:
            raise AssertionError("; ".join(bad))
    return answer


def refused(code, client, operation, **members):
    try:
        getattr(client, operation)(**members)
    except ClientError as e:
        error = e.response["Error"]
        assert error["Code"] == code, f"{error['Code']}: {error['Message']}"
        assert error["Message"], "no message"
        known = client.meta.service_model.operation_model(
            client.meta.method_to_api_mapping[operation]
        ).error_shapes
        assert code in [s.name for s in known], f"{code} is no error of {operation}"
        return e
    raise AssertionError(f"no {code}: {operation} succeeded")


def test(what):
    def run(function):
        global done, failed
        done += 1
        try:
            function()
            print(f"ok {done} - {what}", flush=True)
        except Exception as e:  # whatever it is, the other tests go on
            failed += 1
            print(f"not ok {done} - {what}\n# {type(e).__name__}: {e}", flush=True)

    return run


def settled(arn):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        image = call(vms, "get_microvm_image", imageIdentifier=arn)
        if not image["state"].endswith("ING"):
            return image
        time.sleep(0.2)
    raise AssertionError(f"{arn} did not settle")


@test("what is always there")
def _():
    images = call(vms, "list_managed_microvm_images")["items"]
    assert base in [i["imageArn"] for i in images]
    call(vms, "list_managed_microvm_image_versions", imageIdentifier=base)
    pages = vms.get_paginator("list_managed_microvm_images").paginate(
        PaginationConfig={"PageSize": 1}
    )
    assert len(pages.build_full_result()["items"]) == len(images)
    call(vms, "list_microvms")
    call(vms, "list_microvm_images")


@test("network connectors of the neighbour API")
def _():
    for c in call(core, "list_network_connectors")["NetworkConnectors"]:
        got = call(core, "get_network_connector", Identifier=c["Name"])
        assert got["Arn"] == c["Arn"]
    refused(
        "InvalidParameterValueException",
        core,
        "create_network_connector",
        Name="x",
        Configuration={"VpcEgressConfiguration": {"SubnetIds": ["subnet-1"]}},
    )


@test("errors have the names of the model")
def _():
    nowhere = f"arn:aws:lambda:{region}:{account}:microvm-image:{stamp}-none"
    for operation in ("get_microvm_image", "delete_microvm_image", "run_microvm", "list_microvms"):
        refused("ResourceNotFoundException", vms, operation, imageIdentifier=nowhere)
    for operation in ("get_microvm", "suspend_microvm", "resume_microvm", "terminate_microvm"):
        e = refused("ResourceNotFoundException", vms, operation, microvmIdentifier="microvm-0")
        assert e.response["resourceId"] == "microvm-0"
    refused("ValidationException", vms, "run_microvm", imageIdentifier="box")
    refused("ResourceNotFoundException", vms, "list_tags", Resource=nowhere)
    refused("InvalidParameterValueException", vms, "list_tags", Resource="box")


@test("an image, its version, its build and its tags")
def _():
    made = call(
        vms,
        "create_microvm_image",
        name=stamp,
        baseImageArn=base,
        buildRoleArn=role,
        codeArtifact={"uri": "s3://there-is-no-such-bucket/key"},
        description="said by botocore",
        environmentVariables={"A": "ä"},
        hooks={"port": 9000, "microvmImageHooks": {"ready": "ENABLED"}},
        resources=[{"minimumMemoryInMiB": 512}],
        logging={"disabled": {}},
        tags={"k": "v"},
    )
    arn = made["imageArn"]
    try:
        image = settled(arn)
        assert image["state"] == "CREATE_FAILED", image
        version = call(vms, "get_microvm_image_version", imageIdentifier=arn, imageVersion="1.0")
        assert version["environmentVariables"] == {"A": "ä"}
        call(vms, "list_microvm_image_versions", imageIdentifier=arn)
        builds = call(vms, "list_microvm_image_builds", imageIdentifier=arn, imageVersion="1.0")
        call(
            vms,
            "get_microvm_image_build",
            imageIdentifier=arn,
            imageVersion="1.0",
            buildId=builds["items"][0]["buildId"],
        )
        vms.tag_resource(Resource=arn, Tags={"more": "x y"})
        vms.untag_resource(Resource=arn, TagKeys=["k"])
        assert call(vms, "list_tags", Resource=arn)["Tags"] == {"more": "x y"}
        again = call(
            vms,
            "update_microvm_image",
            imageIdentifier=arn,
            baseImageArn=base,
            buildRoleArn=role,
            codeArtifact={"uri": "s3://there-is-no-such-bucket/key"},
        )
        assert again["imageVersion"] == "2.0"
        settled(arn)
        call(vms, "delete_microvm_image_version", imageIdentifier=arn, imageVersion="1.0")
    finally:
        settled(arn)
        call(vms, "delete_microvm_image", imageIdentifier=arn)


image = os.environ.get("DORMOUSE_TEST_IMAGE")
if image:

    @test("the life of a microVM")
    def _():
        vm = call(vms, "run_microvm", imageIdentifier=image, maximumDurationInSeconds=600)
        me = {"microvmIdentifier": vm["microvmId"]}
        try:
            end = time.monotonic() + 120
            while call(vms, "get_microvm", **me)["state"] == "PENDING" and time.monotonic() < end:
                time.sleep(0.1)
            ports = [{"port": 8080}]
            call(vms, "create_microvm_auth_token", **me, expirationInMinutes=1, allowedPorts=ports)
            call(vms, "suspend_microvm", **me)
            assert call(vms, "get_microvm", **me)["state"] == "SUSPENDED"
            refused("ConflictException", vms, "suspend_microvm", **me)
            call(vms, "resume_microvm", **me)
            assert call(vms, "get_microvm", **me)["state"] == "RUNNING"
            call(vms, "list_microvms", imageIdentifier=image)
        finally:
            call(vms, "terminate_microvm", **me)


print(f"1..{done}")
sys.exit(1 if failed else 0)
