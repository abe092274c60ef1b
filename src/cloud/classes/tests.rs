use super::*;

type Documented = (&'static str, u16, ErrorClass, &'static [&'static str]);

/// The error codes of the vendor's metadata of 2024-07 (aliyun-api.md, META24), action by action, each with the class
/// that a reading of its message gives.
#[rustfmt::skip]
const METADATA: &[Documented] = &[
    (CREATE_FORWARD_ENTRY, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry", "TaskConflict"]),
    (CREATE_FORWARD_ENTRY, 400, ErrorClass::Duplicate, &["DuplicatedParam.InternalPort", "DuplicatedParam.ExternalPort", "OperationUnsupported.ForwardEntry", "ForwardEntry.Duplicated", "Duplicated.DestinationPort"]),
    (CREATE_FORWARD_ENTRY, 400, ErrorClass::Malformed, &["UnsupportedFeature.PrivateLinkEnabled", "UnsupportedFeature.PortSegment", "ExclusiveParam.%sAnd%s", "OperationFailed.AnyPortConfig", "Forbidden.IpHasBeenUsedInSnat", "InvalidExternalIp.Malformed", "InvalidInternalIp.Malformed", "InvalidExternalPort.Malformed", "InvalidInternalPort.Malformed", "Forbidden.DestnationIpOutOfVpcCIDR", "Forbidden.DestinationIpOutOfVswitchCIDR", "InvalidProtocal.ValueNotSupported", "Forbidden.ExternalIp.UsedInSnatTable", "Forbindden", "Forbidden.InternalIpOutOfVpcCIDR", "MissingParameter", "AnyPort.PortMustBeZero", "InvalidParameter.Name.Malformed", "OperationFailed.DnatPortRangeLimit"]),
    (CREATE_FORWARD_ENTRY, 400, ErrorClass::Quota, &["QuotaExceeded.ForwardEntry", "QuotaExceeded.ForwardEntrySessionManytoOne"]),
    (CREATE_FORWARD_ENTRY, 400, ErrorClass::RetryLater, &["InvalidIp.NotInNatgw", "IncorrectStatus.NatIp", "Invalid.natgwNotExist", "OperationUnsupported.EipInBinding", "IncorrectStatus.NATGW"]),
    (CREATE_FORWARD_ENTRY, 404, ErrorClass::Gone, &["InvalidForwardTableId.NotFound"]),
    (CREATE_FORWARD_ENTRY, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    (CREATE_FORWARD_ENTRY, 404, ErrorClass::RetryLater, &["ResourceNotFound.NatIp", "InvalidExternalIp.NotFound"]),
    (CREATE_FORWARD_ENTRY, 500, ErrorClass::Unknown, &["System.Error", "InternalError"]),
    (DELETE_FORWARD_ENTRY, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus", "IncorrectStatus.ForwardEntry"]),
    (DELETE_FORWARD_ENTRY, 400, ErrorClass::Malformed, &["MissingParameter"]),
    (DELETE_FORWARD_ENTRY, 400, ErrorClass::RetryLater, &["IncorrectStatus.NATGW"]),
    (DELETE_FORWARD_ENTRY, 404, ErrorClass::Gone, &["InvalidForwardEntryId.NotFound", "InvalidForwardTableId.NotFound", "ResourceNotFound.ForwardEntry"]),
    (DELETE_FORWARD_ENTRY, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    (DESCRIBE_FORWARD_TABLE_ENTRIES, 400, ErrorClass::Conflict, &["IncorretForwardEntryStatus"]),
    (DESCRIBE_FORWARD_TABLE_ENTRIES, 400, ErrorClass::Malformed, &["DESCRIBE_FORWARD_PARAM_INVALID"]),
    (DESCRIBE_FORWARD_TABLE_ENTRIES, 404, ErrorClass::Gone, &["InvalidForwardTableId.NotFound"]),
    (DESCRIBE_FORWARD_TABLE_ENTRIES, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    (DESCRIBE_NAT_GATEWAYS, 404, ErrorClass::Malformed, &["InvalidRegionId.NotFound"]),
    (DESCRIBE_NAT_GATEWAYS, 500, ErrorClass::Unknown, &["InternalError"]),
    (DESCRIBE_EIP_ADDRESSES, 400, ErrorClass::Denied, &["InvalidAliuid"]),
    (DESCRIBE_EIP_ADDRESSES, 400, ErrorClass::Malformed, &["InvalidIAssociatedInstanceType.ValueNotSupported", "InvalidChargeType.ValueNotSupported", "InvalidResourceGroupId", "InstanceType.Invalid", "InstanceIdLength.Exceed", "InvalidTagKey", "InvalidTagValue", "OperationUnsupported.ResourceGroupId", "IellgalParameter.OwnerAccount"]),
    (DESCRIBE_EIP_ADDRESSES, 404, ErrorClass::Malformed, &["InvalidFilterValue", "Forbidden.RegionNotFound", "InvalidFilterKey.NotFound", "InvalidLockReason.NotFound"]),
    (DESCRIBE_ROUTE_TABLE_LIST, 400, ErrorClass::Malformed, &["InvalidTagKey", "InvalidTagValue", "IellgalParameter.OwnerAccount"]),
    (DESCRIBE_ROUTE_TABLE_LIST, 403, ErrorClass::Denied, &["Forbbiden", "Abs.Forbidden"]),
    (DESCRIBE_ROUTE_TABLE_LIST, 403, ErrorClass::Malformed, &["Abs.InvalidPayType", "Abs.InstanceNotExist", "Abs.InvalidPayPeriod"]),
    (DESCRIBE_ROUTE_ENTRY_LIST, 400, ErrorClass::Malformed, &["IllegalParam.RouteEntryType", "MissingParam.context", "MissingParam.aliUid", "MissingParam.bid", "IllegalParam.IpVersion", "OperationFailed.FilterParamUnderWrongRouteType", "IllegalParam.NextToken", "InvalidNextHop.NotFound", "OperationDenied.UseGatewayRouteEntryQueryInterface"]),
    (DESCRIBE_ROUTE_ENTRY_LIST, 400, ErrorClass::RetryLater, &["InvalidRouteTable.NotFound", "IllegalParam.NextTokenExpired", "OperationFailed.QueryCenEntry"]),
    (DESCRIBE_NETWORK_INTERFACES, 400, ErrorClass::Denied, &["Forbidden.RegionId"]),
    (DESCRIBE_NETWORK_INTERFACES, 400, ErrorClass::Malformed, &["MissingParameter", "UnsupportedParameter", "InvalidParameter", "InvalidInstanceID.Malformed", "InvalidOperation.InvalidEcsState", "InvalidOperation.InvalidEniState", "InvalidOperation.DetachPrimaryEniNotAllowed", "InvalidRegionId.MalFormed"]),
    (DESCRIBE_NETWORK_INTERFACES, 403, ErrorClass::Denied, &["InvalidUserType.NotSupported", "Abs.InvalidAccount.NotFound", "Forbidden.NotSupportRAM", "Forbidden.SubUser", "Forbidden.RegionId"]),
    (DESCRIBE_NETWORK_INTERFACES, 403, ErrorClass::Malformed, &["InvalidParameter", "MaxEniCountExceeded", "EniPerInstanceLimitExceeded", "InvalidOperation.AvailabilityZoneMismatch", "InvalidOperation.VpcMismatch", "SecurityGroupInstanceLimitExceed", "InvalidSecurityGroupId.NotVpc", "InvalidOperation.InvalidEniType", "InvalidVpc.Empty", "InvalidOperation.InvalidEniPageNumber", "InvalidVpc.Indeterminacy"]),
    (DESCRIBE_NETWORK_INTERFACES, 404, ErrorClass::Malformed, &["InvalidEcsId.NotFound", "InvalidEniId.NotFound", "InvalidVSwitchId.NotFound", "InvalidSecurityGroupId.NotFound"]),
];

/// Codes that the metadata does not list and that were met live, in the pages of the gateway, or in the vendor's tools.
const MET_ELSEWHERE: &[(u16, ErrorClass, &[&str])] = &[
    (409, ErrorClass::Conflict, &["OperationConflict"]),
    (400, ErrorClass::Quota, &["QuotaExceeded"]),
    (400, ErrorClass::Duplicate, &["IdempotentParameterMismatch"]),
    (400, ErrorClass::RetryNow, &["LastTokenProcessing", "OperationFailed.LastTokenProcessing"]),
    (
        400,
        ErrorClass::Throttled { after_ms: None },
        &["Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling", "OperationFailed.Throttling"],
    ),
    (
        400,
        ErrorClass::Denied,
        &["SignatureDoesNotMatch", "IncompleteSignature", "InvalidTimeStamp.Expired", "InvalidAccessKeyId.NotFound"],
    ),
    (404, ErrorClass::Denied, &["InvalidAccessKeyId.NotFound"]),
    (403, ErrorClass::Denied, &["Forbidden.RAM", "SignatureDoesNotMatch", "InvalidSecurityToken.Expired"]),
    (
        400,
        ErrorClass::Malformed,
        &["MissingRegionId", "InvalidTimeStamp.Format", "IllegalTimestamp", "DryRunOperation"],
    ),
    (403, ErrorClass::Malformed, &["InvalidAction", "UnsupportedHTTPMethod"]),
    (404, ErrorClass::Malformed, &["InvalidProduct.NotFound", "InvalidApi.NotFound", "InvalidProtocol.NeedSsl"]),
    (400, ErrorClass::Unknown, &["SignatureNonceUsed", "IdempotentFailed", "UnknownError"]),
    (503, ErrorClass::Unknown, &["ServiceUnavailable"]),
];

const ALL: [&str; 8] = [
    CREATE_FORWARD_ENTRY,
    DELETE_FORWARD_ENTRY,
    DESCRIBE_FORWARD_TABLE_ENTRIES,
    DESCRIBE_NAT_GATEWAYS,
    DESCRIBE_EIP_ADDRESSES,
    DESCRIBE_ROUTE_TABLE_LIST,
    DESCRIBE_ROUTE_ENTRY_LIST,
    DESCRIBE_NETWORK_INTERFACES,
];

fn named(code: &str) -> bool {
    EXACT.iter().any(|(_, codes)| codes.contains(&code))
        || BY_PREFIX.iter().any(|(_, prefixes)| prefixes.iter().any(|prefix| code.starts_with(prefix)))
        || code.contains("Throttling")
}

#[test]
fn every_documented_code_has_its_class() {
    for (action, status, class, codes) in METADATA {
        for code in *codes {
            assert_eq!(class_of(action, *status, code, "some words"), *class, "{action} {status} {code}");
            assert!(named(code), "{code} is documented, so the table must name it");
        }
    }
    for action in ALL {
        for (status, class, codes) in MET_ELSEWHERE {
            for code in *codes {
                assert_eq!(class_of(action, *status, code, "some words"), *class, "{action} {status} {code}");
                assert!(named(code), "{code} is documented, so the table must name it");
            }
        }
    }
}

#[test]
fn a_missing_entry_in_disguise_is_gone_only_where_an_entry_was_named() {
    let class = |action, message| class_of(action, 400, "IncorretForwardEntryStatus", message);
    assert_eq!(class(DELETE_FORWARD_ENTRY, "The Specified forwardEntry is not exist"), ErrorClass::Gone);
    assert_eq!(
        class(DELETE_FORWARD_ENTRY, "The Specified forwardEntry is not stable status, can not operation"),
        ErrorClass::Conflict
    );
    assert_eq!(class(CREATE_FORWARD_ENTRY, "The Specified forwardEntry is not exist"), ErrorClass::Conflict);
}

#[test]
fn a_failed_server_says_nothing_about_a_change() {
    for action in [CREATE_FORWARD_ENTRY, DELETE_FORWARD_ENTRY] {
        for status in [500, 502, 503, 504, 599] {
            for code in ["QuotaExceeded.ForwardEntry", "InvalidForwardEntryId.NotFound", "Throttling.User", "", "Novel"]
            {
                assert_eq!(class_of(action, status, code, ""), ErrorClass::Unknown, "{action} {status} {code}");
            }
        }
    }
    assert_eq!(
        class_of(DESCRIBE_NAT_GATEWAYS, 503, "Throttling", ""),
        ErrorClass::Throttled { after_ms: None },
        "a read has no effect to be in doubt about"
    );
}

#[test]
fn what_no_row_names_proves_nothing() {
    for action in ALL {
        for (status, code) in [(400, "Novel.Code"), (404, "NotFound"), (404, "Novel.NotFound"), (404, ""), (302, "")] {
            assert_eq!(class_of(action, status, code, "is not exist"), ErrorClass::Unknown, "{action} {status} {code}");
        }
    }
}

#[test]
fn only_an_entry_or_a_table_can_be_gone() {
    let gone: Vec<_> =
        EXACT.iter().filter(|(class, _)| *class == ErrorClass::Gone).flat_map(|(_, codes)| *codes).collect();
    assert_eq!(
        gone,
        [&"InvalidForwardEntryId.NotFound", &"ResourceNotFound.ForwardEntry", &"InvalidForwardTableId.NotFound"]
    );
}

#[test]
fn no_code_stands_in_two_rows() {
    let mut codes: Vec<_> = EXACT.iter().flat_map(|(_, codes)| *codes).collect();
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all);
}
