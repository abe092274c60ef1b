//! The one table from what the cloud answered to what may be concluded from it (aliyun-api.md §3).
//!
//! Pure. A code that no row names is [`ErrorClass::Unknown`]: it proves nothing. `Gone` is given only by the codes that
//! name a forward entry or a forward table; the 404 of a region, key, product or action is not evidence of absence.

use crate::ports::cloud::ErrorClass;

/// `vpc:CreateForwardEntry`.
pub const CREATE_FORWARD_ENTRY: &str = "CreateForwardEntry";
/// `vpc:DeleteForwardEntry`.
pub const DELETE_FORWARD_ENTRY: &str = "DeleteForwardEntry";
/// `vpc:DescribeForwardTableEntries`.
pub const DESCRIBE_FORWARD_TABLE_ENTRIES: &str = "DescribeForwardTableEntries";
/// `vpc:DescribeNatGateways`.
pub const DESCRIBE_NAT_GATEWAYS: &str = "DescribeNatGateways";
/// `vpc:DescribeEipAddresses`.
pub const DESCRIBE_EIP_ADDRESSES: &str = "DescribeEipAddresses";
/// `vpc:DescribeRouteTableList`.
pub const DESCRIBE_ROUTE_TABLE_LIST: &str = "DescribeRouteTableList";
/// `vpc:DescribeRouteEntryList`.
pub const DESCRIBE_ROUTE_ENTRY_LIST: &str = "DescribeRouteEntryList";
/// `ecs:DescribeNetworkInterfaces`.
pub const DESCRIBE_NETWORK_INTERFACES: &str = "DescribeNetworkInterfaces";

/// Whether the action changes the cloud, so that an answer in doubt leaves its effect in doubt.
#[must_use]
pub fn is_mutating(action: &str) -> bool {
    matches!(action, CREATE_FORWARD_ENTRY | DELETE_FORWARD_ENTRY)
}

/// What may be concluded from an error answer. `Throttled` comes without a hint: that stands in a header.
#[must_use]
pub fn class_of(action: &str, status: u16, code: &str, message: &str) -> ErrorClass {
    // A server that failed cannot vouch for what it did before it failed, whatever code it found to say so.
    if is_mutating(action) && status >= 500 {
        return ErrorClass::Unknown;
    }
    if action == DELETE_FORWARD_ENTRY && code == "IncorretForwardEntryStatus" && message.contains("is not exist") {
        return ErrorClass::Gone;
    }
    if code.contains("Throttling") {
        return ErrorClass::Throttled { after_ms: None };
    }
    EXACT
        .iter()
        .find(|(_, codes)| codes.contains(&code))
        .or_else(|| BY_PREFIX.iter().find(|(_, prefixes)| prefixes.iter().any(|prefix| code.starts_with(prefix))))
        .map_or(ErrorClass::Unknown, |(class, _)| *class)
}

type Row = (ErrorClass, &'static [&'static str]);

const EXACT: &[Row] = &[
    (ErrorClass::RetryNow, &["LastTokenProcessing", "OperationFailed.LastTokenProcessing"]),
    (
        ErrorClass::RetryLater,
        &[
            // An EIP that was just bound is not yet seen by the gateway; the vendor's own provider retries this one.
            "InvalidIp.NotInNatgw",
            "InvalidIp.NotFound",
            "InvalidExternalIp.NotFound",
            "ResourceNotFound.NatIp",
            "OperationUnsupported.EipInBinding",
            "IncorrectStatus.NatIp",
            "IncorrectStatus.NATGW",
            "IncorrectStatus",
            // The gateway, not the table that the call names: that the table is gone has to be read, not inferred.
            "Invalid.natgwNotExist",
            "InvalidRouteTable.NotFound",
            "OperationFailed.QueryCenEntry",
            // The listing begins anew and gets a fresh token.
            "IllegalParam.NextTokenExpired",
        ],
    ),
    (
        ErrorClass::Conflict,
        &[
            "OperationConflict",
            "TaskConflict",
            "IncorretForwardEntryStatus",
            "IncorretStatus.ForwardEntry",
            "IncorrectStatus.ForwardEntry",
        ],
    ),
    (
        ErrorClass::Duplicate,
        &[
            "ForwardEntry.Duplicated",
            "OperationUnsupported.ForwardEntry",
            "DuplicatedParam.ExternalPort",
            "DuplicatedParam.InternalPort",
            "Duplicated.DestinationPort",
            // Something was asked with this token before: it may exist.
            "IdempotentParameterMismatch",
        ],
    ),
    (ErrorClass::Quota, &["QuotaExceeded", "QuotaExceeded.ForwardEntry", "QuotaExceeded.ForwardEntrySessionManytoOne"]),
    (
        ErrorClass::Gone,
        &["InvalidForwardEntryId.NotFound", "ResourceNotFound.ForwardEntry", "InvalidForwardTableId.NotFound"],
    ),
    (
        ErrorClass::Denied,
        &[
            "Forbidden",
            "Forbidden.RAM",
            "Forbidden.SubUser",
            "Forbidden.NotSupportRAM",
            "Forbidden.RegionId",
            "Forbbiden",
            "NoPermission",
            "InvalidUserType.NotSupported",
            "InvalidAliuid",
            "Abs.InvalidAccount.NotFound",
            "Abs.Forbidden",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            // The clocks differ by more than 15 minutes: somebody has to set one of them.
            "InvalidTimeStamp.Expired",
        ],
    ),
    (
        ErrorClass::Malformed,
        &[
            "UnsupportedFeature.PrivateLinkEnabled",
            "UnsupportedFeature.PortSegment",
            "OperationFailed.AnyPortConfig",
            "OperationFailed.DnatPortRangeLimit",
            "AnyPort.PortMustBeZero",
            "IllegalParam.AnyPortNotZero",
            "Forbidden.IpHasBeenUsedInSnat",
            "Forbidden.ExternalIp.UsedInSnatTable",
            "Forbidden.Already.Bounded",
            "Forbidden.DestnationIpOutOfVpcCIDR",
            "Forbidden.InternalIpOutOfVpcCIDR",
            "Forbidden.DestinationIpOutOfVswitchCIDR",
            // The instance has an EIP of its own.
            "Forbindden",
            "InvalidExternalIp.Malformed",
            "InvalidInternalIp.Malformed",
            "InvalidExternalPort.Malformed",
            "InvalidInternalPort.Malformed",
            "InvalidProtocal.ValueNotSupported",
            "InvalidParameter",
            "InvalidParameter.Name.Malformed",
            "UnsupportedParameter",
            "DESCRIBE_FORWARD_PARAM_INVALID",
            "DryRunOperation",
            "InvalidRegionId.NotFound",
            "InvalidRegionId.MalFormed",
            "Forbidden.RegionNotFound",
            "InvalidIAssociatedInstanceType.ValueNotSupported",
            "InvalidChargeType.ValueNotSupported",
            "InvalidResourceGroupId",
            "InstanceType.Invalid",
            "InstanceIdLength.Exceed",
            "InvalidTagKey",
            "InvalidTagValue",
            "OperationUnsupported.ResourceGroupId",
            "IellgalParameter.OwnerAccount",
            "InvalidFilterValue",
            "InvalidFilterKey.NotFound",
            "InvalidLockReason.NotFound",
            "Abs.InvalidPayType",
            "Abs.InstanceNotExist",
            "Abs.InvalidPayPeriod",
            "IllegalParam.RouteEntryType",
            "IllegalParam.IpVersion",
            "IllegalParam.NextToken",
            "OperationFailed.FilterParamUnderWrongRouteType",
            "OperationDenied.UseGatewayRouteEntryQueryInterface",
            "InvalidNextHop.NotFound",
            "InvalidInstanceID.Malformed",
            "MaxEniCountExceeded",
            "EniPerInstanceLimitExceeded",
            "SecurityGroupInstanceLimitExceed",
            "InvalidSecurityGroupId.NotVpc",
            "InvalidSecurityGroupId.NotFound",
            "InvalidVpc.Empty",
            "InvalidVpc.Indeterminacy",
            "InvalidEcsId.NotFound",
            "InvalidEniId.NotFound",
            "InvalidVSwitchId.NotFound",
            "InvalidTimeStamp.Format",
            "IllegalTimestamp",
            "InvalidProduct.NotFound",
            "InvalidApi.NotFound",
            "InvalidAction.NotFound",
            "InvalidVersion",
            "InvalidProtocol.NeedSsl",
            "InvalidAction",
            "UnsupportedHTTPMethod",
        ],
    ),
    (
        ErrorClass::Unknown,
        &[
            "System.Error",
            "InternalError",
            "InternalServerError",
            "ServiceUnavailable",
            "UnknownError",
            "IdempotentFailed",
            // Each attempt has its own nonce, so the request itself was delivered twice: the first may have worked.
            "SignatureNonceUsed",
        ],
    ),
];

/// Families of codes whose members no page lists in full.
const BY_PREFIX: &[Row] = &[
    (ErrorClass::Denied, &["InvalidAccessKeyId.", "InvalidSecurityToken."]),
    // `Missing{ParameterName}` of the gateway, `MissingParameter` and `MissingParam.{name}` of the products.
    (ErrorClass::Malformed, &["Missing", "ExclusiveParam.", "InvalidOperation."]),
];

#[cfg(test)]
mod tests;
