"""An AWS SAM template for those who deploy with their own tools; in JSON, which is YAML too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyworkflow_aws.deploy.cloud.policy import TRUST, Place, role_policy
from pyworkflow_aws.deploy.cloud.target import ALIAS, Target

ANYWHERE = Place("${AWS::AccountId}", "${AWS::Region}", "${AWS::Partition}")
"""Wherever the template is deployed."""


def template(target: Target, code: str) -> dict[str, Any]:
    """Return the template of a function whose zip is *code*, a path relative to the template.

    What environment variables hold is asked for at deployment, and not in the template: it may be secret.
    """
    parameters = {f"Variable{number}": name for number, name in enumerate(sorted(target.environment), 1)}
    resources: dict[str, Any] = {
        "Logs": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": target.log_group, "RetentionInDays": target.log_days},
        },
        "Function": {
            "Type": "AWS::Serverless::Function",
            "DependsOn": ["Logs"],
            "Properties": _function(target, code, parameters),
        },
    }
    if target.role is None:
        resources["Role"] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": TRUST,
                "Policies": [{"PolicyName": "pyworkflow", "PolicyDocument": _placed(role_policy(target, ANYWHERE))}],
            },
        }
    made: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"The workflows of {target.module}",
        "Resources": resources,
        "Outputs": {"Alias": {"Value": {"Ref": "Function.Alias"}}},
    }
    if parameters:
        made["Parameters"] = {
            parameter: {"Type": "String", "NoEcho": True, "Description": f"The environment variable {name}"}
            for parameter, name in parameters.items()
        }
    return made


def _function(target: Target, code: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    configuration = target.configuration(target.role or {"Fn::GetAtt": ["Role", "Arn"]})
    variables: dict[str, Any] = {name: {"Ref": parameter} for parameter, name in parameters.items()}
    properties = {
        **configuration,
        "FunctionName": target.name,
        "CodeUri": code,
        "Architectures": [target.arch],
        "Environment": {"Variables": {**variables, **target.own_environment()}},
        "AutoPublishAlias": ALIAS,
        "AutoPublishAliasAllProperties": True,  # a version keeps its configuration, not only its code
    }
    if not target.kind.durable:
        properties["EventInvokeConfig"] = {"MaximumRetryAttempts": 0}
    return properties


def _placed(value: Any) -> Any:
    """Return *value* with each text that has pseudo parameters in it marked for substitution."""
    match value:
        case str():
            return {"Fn::Sub": value} if "${" in value else value
        case Mapping():
            return {key: _placed(one) for key, one in value.items()}
        case list():
            return [_placed(one) for one in value]
    return value
