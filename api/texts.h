// SPDX-License-Identifier: Apache-2.0
/*
 * Error texts of the operations: name and format, to be handed to op_fail().
 * The wording is that of the service where it is known, so that programs which
 * match on it go on working.
 */
#ifndef DORMOUSE_API_TEXTS_H
#define DORMOUSE_API_TEXTS_H

#define TEXT_DENIED "AccessDeniedException", "User is not authorized to perform: lambda:%s"
#define TEXT_DENIED_ON                                                                        \
    "AccessDeniedException",                                                                  \
        "User is not authorized to perform: lambda:%s on resource: %s (this endpoint serves " \
        "arn:aws:lambda:%s:%s:microvm-image:<name>)"
#define TEXT_UNKNOWN_OPERATION \
    "UnknownOperationException", "No operation answers %s on this path"
#define TEXT_BAD_PATH "ValidationException", "The path or query is not percent-encoded UTF-8"
#define TEXT_INVALID  "ValidationException", "%s"
#define TEXT_INTERNAL \
    "InternalServerException", "The service had an internal error; its log says more"
#define TEXT_STATE_BUSY \
    "InternalServerException", "The service's state is in use by another program; try again"
#define TEXT_STATE_FULL                                                                      \
    "InternalServerException", "The service's state directory is full; its operator has to " \
                               "free space"
#define TEXT_NO_CAPACITY                                                                 \
    "InsufficientCapacityException", "There is not enough capacity on this host at the " \
                                     "moment; end or suspend microVMs, or try again later"

#define TEXT_THROTTLED "ThrottlingException", "Rate exceeded"

#define TEXT_NO_KEY    "ResourceNotFoundException", "There is no access key %s"
#define TEXT_LAST_ADMIN                                                        \
    "ConflictException",                                                       \
        "This is the last access key with the rights admin; make another one " \
        "first"
#define TEXT_TOO_MANY_KEYS                                                                  \
    "ServiceQuotaExceededException", "There are %u access keys already; revoke those that " \
                                     "are not used"

#define TEXT_ENVIRONMENT  "ValidationException", "environmentVariables take more than %u KiB"
#define TEXT_ENDED        "ConflictException", "MicroVM %s cannot be updated while it is in state: %s"
#define TEXT_IDLE_BOTH    "ValidationException", "Give idlePolicy or removeIdlePolicy, not both"
#define TEXT_NOT_RUNNING  "ConflictException", "MicroVM %s is not running and cannot be woken"
#define TEXT_GUEST_SILENT "ConflictException", "MicroVM %s did not answer in time"
#define TEXT_GUEST_GONE \
    "ConflictException", "MicroVM %s was suspended or ended before it had answered"
#define TEXT_GUEST_NONSENSE                                                                  \
    "ConflictException", "The answer that came out of MicroVM %s is none; what runs inside " \
                         "may have replaced its init"
#define TEXT_GUEST_NOT_FOUND "ResourceNotFoundException", "%s"
#define TEXT_GUEST_CONFLICT  "ConflictException", "%s"
#define TEXT_COMMAND_TOO_LONG \
    "ValidationException", "The command and its environment take more than %u KiB"
#define TEXT_NO_WEBSOCKET \
    "ValidationException", "A terminal is opened with a WebSocket handshake (RFC 6455)"
#define TEXT_TWO_INPUTS "ValidationException", "Give stdin or stdinBase64, not both"
#define TEXT_BAD_BASE64 "ValidationException", "stdinBase64 is not padded base64"
#define TEXT_BAD_MODE   "ValidationException", "mode must be octal, such as 644"
#define TEXT_PIECE_TOO_LARGE \
    "ValidationException", "Write at most %u bytes at once, then go on at the next offset"
#define TEXT_INIT_TOO_OLD                                                                      \
    "ConflictException", "The image was made by an older release that writes files only as a " \
                         "whole; build a new version"

#define TEXT_MALFORMED_ARN "ValidationException", "Malformed ARN - doesn't start with 'arn:'"
#define TEXT_INVALID_ARN   "ValidationException", "Invalid ARN format: %s"
#define TEXT_NO_MANAGED_IMAGE \
    "ValidationException", "No managed MicroVM Image with arn %s is available"
#define TEXT_NO_MANAGED_VERSION \
    "ValidationException", "No managed MicroVM Image with arn %s and version %s is available"
#define TEXT_MANAGED_NOT_FOUND \
    "ResourceNotFoundException", "Managed MicroVMImage not found for MicroVMImageID: %s"
#define TEXT_IMAGE_EXISTS "ValidationException", "MicroVM Image with name %s already exists"
#define TEXT_NO_IMAGE \
    "ResourceNotFoundException", "MicroVMImage not found for MicroVMImageID: %s"
#define TEXT_NO_VERSION          \
    "ResourceNotFoundException", \
        "MicroVMImage version not found for MicroVMImageID: %s and version: %s"
#define TEXT_NO_BUILD \
    "ResourceNotFoundException", "MicroVMImage build not found for buildId: %s"
#define TEXT_NO_ACTIVE \
    "ResourceNotFoundException", "No active version found for MicroVM image %s"
#define TEXT_NO_ACTIVE_VERSION \
    "ResourceNotFoundException", "No active version found for MicroVM image %s and version %s"
#define TEXT_IMAGE_STATE "ConflictException", "MicroVM Image is already in state: %s"
#define TEXT_CANNOT_DELETE \
    "ValidationException", "Cannot delete MicroVM image in its current state"
#define TEXT_LAST_VERSION \
    "ValidationException", "This is the last version. Please delete the entire image"
#define TEXT_VERSION_STATE "ConflictException", "MicroVM Image version %s is in state: %s"
#define TEXT_IN_USE                                                                          \
    "ConflictException", "%llu MicroVM(s) of this image are not terminated; terminate them " \
                         "first"
#define TEXT_BAD_MEMORY                                                                        \
    "ValidationException",                                                                     \
        "Memory size %u MiB is not supported by base image %s. Supported memory sizes in MiB " \
        "are: [512, 1024, 2048, 4096, 8192]"
#define TEXT_NEEDS_READY   \
    "ValidationException", \
        "The ready image hook must be enabled when any lifecycle hook is enabled"
#define TEXT_RESERVED_ENV "ValidationException", "Environment variable key '%s' is reserved"
#define TEXT_BAD_ENV      "ValidationException", "Environment variable key '%s' must not contain '='"
#define TEXT_RESERVED_TAG \
    "ValidationException", "Tag key '%s' is reserved: keys must not begin with 'aws:'"
#define TEXT_TOO_MANY_TAGS "ValidationException", "A resource can have at most 50 tags"
#define TEXT_NOT_TAGGABLE \
    "ValidationException", "The resource %s cannot have tags; only microvm-image can"
#define TEXT_NOT_S3 \
    "ValidationException", "The code artifact uri must have the form s3://bucket/key: %s"
#define TEXT_IMAGE_QUOTA \
    "ServiceQuotaExceededException", "The limit of %u MicroVM images has been reached"
#define TEXT_VERSION_QUOTA                                                                   \
    "ServiceQuotaExceededException", "The limit of %u versions of a MicroVM image has been " \
                                     "reached; delete old ones"

#define TEXT_NO_CHECKPOINT "ResourceNotFoundException", "MicroVM %s has no checkpoint %s"
#define TEXT_QUOTA         "ServiceQuotaExceededException", "%s"
#define TEXT_NO_MICROVM    "ResourceNotFoundException", "Unable to find microvmIdentifier %s"
#define TEXT_HOOK_DISABLED \
    "ValidationException", \
        "The run hook must be enabled in the MicroVM image to pass the run hook payload"
#define TEXT_LOGGING_NEEDS_ROLE \
    "ValidationException", "Logging cannot be enabled without providing executionRoleArn"
#define TEXT_DURATION                                                                         \
    "ValidationException",                                                                    \
        "1 validation error detected: Value at 'maximumDurationInSeconds' failed to satisfy " \
        "constraint: Member must have value less than or equal to %u"
#define TEXT_MICROVM_STATE \
    "ConflictException", "MicroVM %s cannot be %s while it is in state: %s"
#define TEXT_TOKEN_CONFLICT \
    "ConflictException", "The clientToken was used before with other parameters"
#define TEXT_SENTENCE        "ConflictException", "%s"

#define TEXT_BAD_CONNECTOR   "ValidationException", "Malformed network connector ARN"
#define TEXT_NO_CONNECTOR    "ResourceNotFoundException", "Network connector not found: %s"
#define TEXT_WRONG_CONNECTOR "ValidationException", "Network connector %s cannot be used for %s"
#define TEXT_CONNECTORS_NOT_OFFERED                                                        \
    "ValidationException",                                                                 \
        "Network connectors of one's own are not offered here; use the managed ones that " \
        "ListNetworkConnectors shows"

#define TEXT_SHELL_INGRESS                                                                \
    "ValidationException", "Shell access requires SHELL_INGRESS network connector to be " \
                           "configured on the MicroVM."
#define TEXT_HTTP_INGRESS                                                                  \
    "ValidationException",                                                                 \
        "Endpoint access requires HTTP_INGRESS network connector to be configured on the " \
        "MicroVM."
#define TEXT_ALL_INGRESS                                                             \
    "ValidationException",                                                           \
        "ALL_INGRESS cannot be combined with other ingress network connectors; use " \
        "HTTP_INGRESS and/or SHELL_INGRESS"
#define TEXT_PORT_RANGE                                                                       \
    "ValidationException",                                                                    \
        "Value at 'allowedPorts.%zu.member.range' is invalid: startPort must not be greater " \
        "than endPort"
#define TEXT_TOO_MANY_PORTS \
    "ValidationException", "allowedPorts has more than %u separate ranges; join some of them"
#define TEXT_BAD_PAGE_TOKEN \
    "ValidationException", "The nextToken is not one that this request has returned"

#endif
