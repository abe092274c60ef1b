//! The one table from what the cloud answered to what may be concluded from it (aliyun-api.md §3).
//!
//! Pure. A row names actions, a status and codes; the same code of the same action under another status means the same,
//! because the vendor's own tables disagree on statuses. A code that no row names for the action is
//! [`ErrorClass::Unknown`]: it proves nothing. `Gone` is given only by codes that name a forward entry or a forward table,
//! to actions that name one; the 404 of a region, key, product or action is not evidence of absence.

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

/// The eight actions.
pub const ACTIONS: [&str; 8] = [
    CREATE_FORWARD_ENTRY,
    DELETE_FORWARD_ENTRY,
    DESCRIBE_FORWARD_TABLE_ENTRIES,
    DESCRIBE_NAT_GATEWAYS,
    DESCRIBE_EIP_ADDRESSES,
    DESCRIBE_ROUTE_TABLE_LIST,
    DESCRIBE_ROUTE_ENTRY_LIST,
    DESCRIBE_NETWORK_INTERFACES,
];

/// Whether the action changes the cloud, so that an answer in doubt leaves its effect in doubt.
#[must_use]
pub fn is_mutating(action: &str) -> bool {
    CHANGES.contains(&action)
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
    named(action, status, code).unwrap_or(ErrorClass::Unknown)
}

/// Whether a row names the code for the action. One that no row names is worth a look at what came with it.
#[must_use]
pub fn is_named(action: &str, code: &str) -> bool {
    named(action, 0, code).is_some()
}

fn named(action: &str, status: u16, code: &str) -> Option<ErrorClass> {
    if code.contains("Throttling") {
        return Some(ErrorClass::Throttled { after_ms: None });
    }
    let rows = || table().filter(|row| row.actions.contains(&action) && row.codes.contains(&code));
    let exact = rows().find(|row| row.status == status);
    let family = || FAMILIES.iter().find(|(_, prefixes)| prefixes.iter().any(|prefix| code.starts_with(prefix)));
    let class = exact.or_else(|| rows().next()).map(|row| row.class);
    class.or_else(|| family().map(|(class, _)| *class))
}

fn table() -> impl Iterator<Item = &'static Row> {
    DOCUMENTED.iter().chain(ELSEWHERE)
}

/// What codes mean, answered with a status to one of some actions.
struct Row {
    actions: &'static [&'static str],
    status: u16,
    class: ErrorClass,
    codes: &'static [&'static str],
}

const fn row(actions: &'static [&'static str], status: u16, class: ErrorClass, codes: &'static [&'static str]) -> Row {
    Row { actions, status, class, codes }
}

const CHANGES: &[&str] = &[CREATE_FORWARD_ENTRY, DELETE_FORWARD_ENTRY];
const CREATE: &[&str] = &[CREATE_FORWARD_ENTRY];
const DELETE: &[&str] = &[DELETE_FORWARD_ENTRY];
const ENTRIES: &[&str] = &[DESCRIBE_FORWARD_TABLE_ENTRIES];
const GATEWAYS: &[&str] = &[DESCRIBE_NAT_GATEWAYS];
const EIPS: &[&str] = &[DESCRIBE_EIP_ADDRESSES];
const ROUTE_TABLES: &[&str] = &[DESCRIBE_ROUTE_TABLE_LIST];
const ROUTES: &[&str] = &[DESCRIBE_ROUTE_ENTRY_LIST];
const INTERFACES: &[&str] = &[DESCRIBE_NETWORK_INTERFACES];
const OF_VPC: &[&str] = &[
    CREATE_FORWARD_ENTRY,
    DELETE_FORWARD_ENTRY,
    DESCRIBE_FORWARD_TABLE_ENTRIES,
    DESCRIBE_NAT_GATEWAYS,
    DESCRIBE_EIP_ADDRESSES,
    DESCRIBE_ROUTE_TABLE_LIST,
    DESCRIBE_ROUTE_ENTRY_LIST,
];
const ANY: &[&str] = &ACTIONS;

/// What the vendor's metadata of 2024-07 documents, action by action: that and nothing else.
#[rustfmt::skip]
const DOCUMENTED: &[Row] = &[
    row(CREATE, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry",
        "TaskConflict"]),
    row(CREATE, 400, ErrorClass::Duplicate, &["DuplicatedParam.InternalPort", "DuplicatedParam.ExternalPort",
        "OperationUnsupported.ForwardEntry", "ForwardEntry.Duplicated", "Duplicated.DestinationPort"]),
    row(CREATE, 400, ErrorClass::Malformed, &["UnsupportedFeature.PrivateLinkEnabled",
        "UnsupportedFeature.PortSegment", "ExclusiveParam.%sAnd%s", "OperationFailed.AnyPortConfig",
        "Forbidden.IpHasBeenUsedInSnat", "InvalidExternalIp.Malformed", "InvalidInternalIp.Malformed",
        "InvalidExternalPort.Malformed", "InvalidInternalPort.Malformed", "Forbidden.DestnationIpOutOfVpcCIDR",
        "Forbidden.DestinationIpOutOfVswitchCIDR", "InvalidProtocal.ValueNotSupported",
        "Forbidden.ExternalIp.UsedInSnatTable", "Forbindden", "Forbidden.InternalIpOutOfVpcCIDR", "MissingParameter",
        "AnyPort.PortMustBeZero", "InvalidParameter.Name.Malformed", "OperationFailed.DnatPortRangeLimit"]),
    row(CREATE, 400, ErrorClass::Quota, &["QuotaExceeded.ForwardEntry", "QuotaExceeded.ForwardEntrySessionManytoOne"]),
    row(CREATE, 400, ErrorClass::RetryLater, &["InvalidIp.NotInNatgw", "IncorrectStatus.NatIp",
        "Invalid.natgwNotExist", "OperationUnsupported.EipInBinding", "IncorrectStatus.NATGW"]),
    row(CREATE, 404, ErrorClass::Gone, &["InvalidForwardTableId.NotFound"]),
    row(CREATE, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    row(CREATE, 404, ErrorClass::RetryLater, &["ResourceNotFound.NatIp", "InvalidExternalIp.NotFound"]),
    row(CREATE, 500, ErrorClass::Unknown, &["System.Error", "InternalError"]),
    row(DELETE, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry"]),
    row(DELETE, 400, ErrorClass::Malformed, &["MissingParameter"]),
    row(DELETE, 400, ErrorClass::RetryLater, &["IncorrectStatus.NATGW"]),
    row(DELETE, 404, ErrorClass::Gone, &["InvalidForwardEntryId.NotFound", "InvalidForwardTableId.NotFound",
        "ResourceNotFound.ForwardEntry"]),
    row(DELETE, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    row(ENTRIES, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus"]),
    row(ENTRIES, 400, ErrorClass::Malformed, &["DESCRIBE_FORWARD_PARAM_INVALID"]),
    row(ENTRIES, 404, ErrorClass::Gone, &["InvalidForwardTableId.NotFound"]),
    row(ENTRIES, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    row(GATEWAYS, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    row(GATEWAYS, 500, ErrorClass::Unknown, &["InternalError"]),
    row(EIPS, 400, ErrorClass::Denied, &["InvalidAliuid"]),
    row(EIPS, 400, ErrorClass::Malformed, &["InvalidIAssociatedInstanceType.ValueNotSupported",
        "InvalidChargeType.ValueNotSupported", "InvalidResourceGroupId", "InstanceType.Invalid",
        "InstanceIdLength.Exceed", "InvalidTagKey", "InvalidTagValue", "OperationUnsupported.ResourceGroupId",
        "IellgalParameter.OwnerAccount"]),
    row(EIPS, 404, ErrorClass::Malformed, &["InvalidFilterValue", "Forbidden.RegionNotFound",
        "InvalidFilterKey.NotFound", "InvalidLockReason.NotFound"]),
    row(ROUTE_TABLES, 400, ErrorClass::Malformed, &["InvalidTagKey", "InvalidTagValue",
        "IellgalParameter.OwnerAccount"]),
    row(ROUTE_TABLES, 403, ErrorClass::Denied, &["Forbbiden", "Abs.Forbidden"]),
    row(ROUTE_TABLES, 403, ErrorClass::Malformed, &["Abs.InvalidPayType", "Abs.InstanceNotExist",
        "Abs.InvalidPayPeriod"]),
    row(ROUTES, 400, ErrorClass::Malformed, &["IllegalParam.RouteEntryType", "MissingParam.context",
        "MissingParam.aliUid", "MissingParam.bid", "IllegalParam.IpVersion",
        "OperationFailed.FilterParamUnderWrongRouteType", "IllegalParam.NextToken", "InvalidNextHop.NotFound",
        "OperationDenied.UseGatewayRouteEntryQueryInterface"]),
    row(ROUTES, 400, ErrorClass::RetryLater, &["InvalidRouteTable.NotFound", "IllegalParam.NextTokenExpired",
        "OperationFailed.QueryCenEntry"]),
    row(INTERFACES, 400, ErrorClass::Denied, &["Forbidden.RegionId"]),
    row(INTERFACES, 400, ErrorClass::Malformed, &["MissingParameter", "UnsupportedParameter", "InvalidParameter",
        "InvalidInstanceID.Malformed", "InvalidOperation.InvalidEcsState", "InvalidOperation.InvalidEniState",
        "InvalidOperation.DetachPrimaryEniNotAllowed", "InvalidRegionId.MalFormed"]),
    row(INTERFACES, 403, ErrorClass::Denied, &["InvalidUserType.NotSupported", "Abs.InvalidAccount.NotFound",
        "Forbidden.NotSupportRAM", "Forbidden.SubUser", "Forbidden.RegionId"]),
    row(INTERFACES, 403, ErrorClass::Malformed, &["InvalidParameter", "MaxEniCountExceeded",
        "EniPerInstanceLimitExceeded", "InvalidOperation.AvailabilityZoneMismatch", "InvalidOperation.VpcMismatch",
        "SecurityGroupInstanceLimitExceed", "InvalidSecurityGroupId.NotVpc", "InvalidOperation.InvalidEniType",
        "InvalidVpc.Empty", "InvalidOperation.InvalidEniPageNumber", "InvalidVpc.Indeterminacy"]),
    row(INTERFACES, 404, ErrorClass::Malformed, &["InvalidEcsId.NotFound", "InvalidEniId.NotFound",
        "InvalidVSwitchId.NotFound", "InvalidSecurityGroupId.NotFound"]),
];

/// What the gateway in front of every product answers, what was met live, and what the vendor's own tools look for
/// (aliyun-api.md §3.5, §3.6, §1.10).
#[rustfmt::skip]
const ELSEWHERE: &[Row] = &[
    row(ANY, 409, ErrorClass::Conflict, &["OperationConflict", "TaskConflict"]),
    row(CHANGES, 400, ErrorClass::Conflict, &["IncorretStatus.ForwardEntry"]),
    row(CHANGES, 400, ErrorClass::RetryNow, &["LastTokenProcessing", "OperationFailed.LastTokenProcessing"]),
    // Something was asked with this token before: it may exist.
    row(CHANGES, 400, ErrorClass::Duplicate, &["IdempotentParameterMismatch"]),
    row(CHANGES, 400, ErrorClass::RetryLater, &["InvalidIp.NotFound", "IncorrectStatus"]),
    row(CREATE, 400, ErrorClass::Quota, &["QuotaExceeded"]),
    row(CREATE, 400, ErrorClass::Malformed, &["IllegalParam.AnyPortNotZero", "Forbidden.Already.Bounded", "DryRunOperation"]),
    row(ANY, 403, ErrorClass::Denied, &["Forbidden", "Forbidden.RAM", "NoPermission"]),
    // The clocks differ by more than 15 minutes: somebody has to set one of them.
    row(ANY, 400, ErrorClass::Denied, &["SignatureDoesNotMatch", "IncompleteSignature", "InvalidTimeStamp.Expired"]),
    row(ANY, 400, ErrorClass::Malformed, &["InvalidParameter", "UnsupportedParameter", "InvalidTimeStamp.Format",
        "IllegalTimestamp", "InvalidVersion"]),
    row(OF_VPC, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    row(ANY, 404, ErrorClass::Malformed, &["InvalidProduct.NotFound", "InvalidApi.NotFound", "InvalidAction.NotFound",
        "InvalidProtocol.NeedSsl"]),
    row(ANY, 403, ErrorClass::Malformed, &["InvalidAction", "UnsupportedHTTPMethod"]),
    row(ANY, 500, ErrorClass::Unknown, &["System.Error", "InternalError", "InternalServerError", "UnknownError"]),
    row(ANY, 503, ErrorClass::Unknown, &["ServiceUnavailable"]),
    // Each attempt has its own nonce, so the request itself was delivered twice: the first may have worked.
    row(ANY, 400, ErrorClass::Unknown, &["SignatureNonceUsed", "IdempotentFailed"]),
];

/// Families of codes whose members no page lists in full.
const FAMILIES: &[(ErrorClass, &[&str])] = &[
    (ErrorClass::Denied, &["InvalidAccessKeyId.", "InvalidSecurityToken."]),
    // `Missing{ParameterName}` of the gateway, `MissingParameter` and `MissingParam.{name}` of the products.
    (ErrorClass::Malformed, &["Missing"]),
];

#[cfg(test)]
mod tests;
