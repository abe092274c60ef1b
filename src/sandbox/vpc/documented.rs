//! Every error that the vendor documents for the eight actions, and for every action at the gateway in front of them: what
//! a plan can let the cloud answer (aliyun-api.md §3). Messages are the vendor's, its placeholders included; where it gives
//! none but a placeholder, ours says so.

use super::refusal::Refusal;

/// One documented error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Documented {
    /// The action; empty where every action can answer it.
    pub action: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Code.
    pub code: &'static str,
    /// Message.
    pub message: &'static str,
}

impl Documented {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ERRORS.iter().flat_map(|(action, status, errors)| {
            errors.iter().map(|(code, message)| Self { action, status: *status, code, message })
        })
    }

    /// What an action answers with that code; its own before the gateway's. `None` where it is not documented.
    #[must_use]
    pub fn find(action: &str, code: &str) -> Option<Self> {
        let of = |action: &str| Self::all().find(|error| error.action == action && error.code == code);
        of(action).or_else(|| of(""))
    }

    /// As the wire shows it.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        let message = if self.message == "%s" { "A documented error without documented words." } else { self.message };
        Refusal::new(self.status, self.code, message)
    }
}

type Group = (&'static str, u16, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const ERRORS: &[Group] = &[
    ("CreateForwardEntry", 400, &[
        ("UnsupportedFeature.PrivateLinkEnabled", "The feature of PrivateLinkEnabled is not supported."),
        ("UnsupportedFeature.PortSegment", "The feature of PortSegment is not supported."),
        ("ExclusiveParam.%sAnd%s", "The param of %s and %s are mutually exclusive."),
        ("DuplicatedParam.InternalPort", "The param of %s is duplicated."),
        ("DuplicatedParam.ExternalPort", "The param of %s is duplicated."),
        ("OperationFailed.AnyPortConfig", "Operation failed because any port correspondence any protocol"),
        ("OperationUnsupported.ForwardEntry", "Duplicated destination ip port is unsupported."),
        ("InvalidIp.NotInNatgw", "The specified Ip not belong to natgateway."),
        ("QuotaExceeded.ForwardEntry", "The quota of %s is exceeded, usage %s/%s."),
        ("IncorrectStatus.NatIp", "The status of %s [%s] is incorrect."),
        ("Forbidden.IpHasBeenUsedInSnat", "The source ip can't be used. Because it has been used in snat."),
        ("InvalidExternalIp.Malformed", "The specified ExternalIp is not a valid IP address."),
        ("InvalidInternalIp.Malformed", "The specified InternalIp is not a valid IP address."),
        ("InvalidExternalPort.Malformed", "The specified ExternalPort is not a valid port."),
        ("InvalidInternalPort.Malformed", "The specified InternalPort is not a valid port."),
        ("Forbidden.DestnationIpOutOfVpcCIDR", "The specified Internal Ip is Out of VPC CIDR."),
        ("Forbidden.DestinationIpOutOfVswitchCIDR", "The specified Internal Ip is Out of VSwitch CIDR."),
        ("InvalidProtocal.ValueNotSupported", "The specified IpProtocol does not support."),
        ("IncorretForwardEntryStatus", "Some Forward entry status blocked this operation.."),
        ("ForwardEntry.Duplicated", "The specified ExternalIp, IpProtocol, ExternalPort,InternalIp, InternalPort  is duplicated"),
        ("Forbidden.ExternalIp.UsedInSnatTable", "The specified ExternalIp is already used in SnatTable"),
        ("Forbindden", "The specified Instance already bind eip"),
        ("Forbidden.InternalIpOutOfVpcCIDR", "The specified Internal Ip is Out of VPC CIDR."),
        ("Invalid.natgwNotExist", "The specified natgateway not exist."),
        ("MissingParameter", "Missing mandatory parameter"),
        ("AnyPort.PortMustBeZero", "any port port must be zero."),
        ("InvalidParameter.Name.Malformed", "The specified Name is not valid."),
        ("IncorrectStatus.ForwardEntry", "The status of %s [%s] is incorrect."),
        ("Duplicated.DestinationPort", "The specified param DestinationPort is duplicated."),
        ("OperationUnsupported.EipInBinding", "Create snat entry with eip in associating status is unsupported."),
        ("QuotaExceeded.ForwardEntrySessionManytoOne", "The dnat session quota is exceed."),
        ("TaskConflict", "The operation is too frequent, please wait a moment and try again."),
        ("OperationFailed.DnatPortRangeLimit", "The maximum number of port ranges that can be specified is exceeded."),
        ("IncorrectStatus.NATGW", "NATGW status is invalid."),
    ]),
    ("CreateForwardEntry", 404, &[
        ("ResourceNotFound.NatIp", "The specified resource of %s is not found."),
        ("InvalidRegionId.NotFound", "The specified RegionId does not exist in our records."),
        ("InvalidForwardTableId.NotFound", "Specified forward table does not exist."),
        ("InvalidExternalIp.NotFound", "Specified External Ip address does not found on the VRouter"),
    ]),
    ("CreateForwardEntry", 500, &[
        ("System.Error", "ERROR SYSTEM ERROR."),
        ("InternalError", "The request processing has failed due to some unknown error."),
    ]),
    ("DeleteForwardEntry", 400, &[
        ("IncorretForwardEntryStatus", "Some Forward entry status blocked this operation.."),
        ("MissingParameter", "Missing mandatory parameter"),
        ("IncorrectStatus.NATGW", "The status of the specified NAT gateway is abnormal."),
        ("IncorrectStatus.ForwardEntry", "The status of %s [%s] is incorrect."),
    ]),
    ("DeleteForwardEntry", 404, &[
        ("InvalidRegionId.NotFound", "The specified RegionId does not exist in our records."),
        ("InvalidForwardEntryId.NotFound", "Specified forward entry ID does not exist"),
        ("InvalidForwardTableId.NotFound", "Specified forward table does not exist."),
        ("ResourceNotFound.ForwardEntry", "The specified resource of %s is not found."),
    ]),
    ("DescribeForwardTableEntries", 400, &[
        ("IncorretForwardEntryStatus", "Some Forward entry status blocked this operation.."),
        ("DESCRIBE_FORWARD_PARAM_INVALID", "ForwardTableId and natGatewayId can not both be null"),
    ]),
    ("DescribeForwardTableEntries", 404, &[
        ("InvalidRegionId.NotFound", "The specified RegionId does not exist in our records."),
        ("InvalidForwardTableId.NotFound", "Specified forwardTableId does not exist"),
    ]),
    ("DescribeNatGateways", 404, &[
        ("InvalidRegionId.NotFound", "The specified RegionId does not exist in our records."),
    ]),
    ("DescribeNatGateways", 500, &[
        ("InternalError", "The request processing has failed due to some unknown error, exception or failure."),
    ]),
    ("DescribeEipAddresses", 400, &[
        ("InvalidIAssociatedInstanceType.ValueNotSupported", "The specified value of AssociatedInstanceType is not supported."),
        ("InvalidChargeType.ValueNotSupported", "The specified ChargeType is not supported."),
        ("InvalidAliuid", "User Id is not valid."),
        ("InvalidResourceGroupId", "The specified ResourceGroupId does not exist."),
        ("InstanceType.Invalid", "InstanceType is not null"),
        ("InstanceIdLength.Exceed", "InstanceId length is exceed"),
        ("InvalidTagKey", "The tag keys are not valid."),
        ("InvalidTagValue", "The tag values are not valid."),
        ("OperationUnsupported.ResourceGroupId", "ResourceGroup is not supported in this region."),
        ("IellgalParameter.OwnerAccount", "The specified parameter OwnerAccount is not valid."),
    ]),
    ("DescribeEipAddresses", 404, &[
        ("InvalidFilterValue", "The specified FilterValue is not supported."),
        ("Forbidden.RegionNotFound", "Specified region is not found during access authentication."),
        ("InvalidFilterKey.NotFound", "The specified Filterkey is not supported."),
        ("InvalidLockReason.NotFound", "The specified LockReason is not found"),
    ]),
    ("DescribeRouteTableList", 400, &[
        ("InvalidTagKey", "The tag keys are not valid."),
        ("InvalidTagValue", "The tag values are not valid."),
        ("IellgalParameter.OwnerAccount", "The specified parameter OwnerAccount is not valid."),
    ]),
    ("DescribeRouteTableList", 403, &[
        ("Forbbiden", "User not authorized to operate on the specified resource."),
        ("Abs.InvalidPayType", "Specified pay type is not valid."),
        ("Abs.InstanceNotExist", "Specified instance not exist."),
        ("Abs.Forbidden", "Specified instance cannot change pay type."),
        ("Abs.InvalidPayPeriod", "Specified pay period not valid."),
    ]),
    ("DescribeRouteEntryList", 400, &[
        ("InvalidRouteTable.NotFound", "%s"),
        ("IllegalParam.RouteEntryType", "%s"),
        ("MissingParam.context", "%s"),
        ("MissingParam.aliUid", "%s"),
        ("MissingParam.bid", "%s"),
        ("IllegalParam.IpVersion", "%s"),
        ("OperationFailed.FilterParamUnderWrongRouteType", "%s"),
        ("IllegalParam.NextToken", "User nextToken is illegal."),
        ("IllegalParam.NextTokenExpired", "%s"),
        ("InvalidNextHop.NotFound", "The specified route entry nexthop does not exist in our records."),
        ("OperationFailed.QueryCenEntry", "Operation is denied because getting CEN route entry has failed."),
        ("OperationDenied.UseGatewayRouteEntryQueryInterface", "Use listGatewayRouteTableEntries to describe gateway route entries."),
    ]),
    ("DescribeNetworkInterfaces", 400, &[
        ("MissingParameter", "%s"),
        ("UnsupportedParameter", "%s"),
        ("InvalidParameter", "%s"),
        ("InvalidInstanceID.Malformed", "%s"),
        ("InvalidOperation.InvalidEcsState", "%s"),
        ("InvalidOperation.InvalidEniState", "%s"),
        ("InvalidOperation.DetachPrimaryEniNotAllowed", "%s"),
        ("Forbidden.RegionId", "%s"),
        ("InvalidRegionId.MalFormed", "The specified parameter RegionId is not valid."),
    ]),
    ("DescribeNetworkInterfaces", 403, &[
        ("InvalidUserType.NotSupported", "%s"),
        ("Abs.InvalidAccount.NotFound", "%s"),
        ("Forbidden.NotSupportRAM", "%s"),
        ("Forbidden.SubUser", "%s"),
        ("InvalidParameter", "%s"),
        ("MaxEniCountExceeded", "%s"),
        ("EniPerInstanceLimitExceeded", "%s"),
        ("InvalidOperation.AvailabilityZoneMismatch", "%s"),
        ("InvalidOperation.VpcMismatch", "%s"),
        ("SecurityGroupInstanceLimitExceed", "%s"),
        ("InvalidSecurityGroupId.NotVpc", "%s"),
        ("InvalidOperation.InvalidEniType", "%s"),
        ("InvalidVpc.Empty", "%s"),
        ("Forbidden.RegionId", "%s"),
        ("InvalidOperation.InvalidEniPageNumber", "%s"),
        ("InvalidVpc.Indeterminacy", "%s"),
    ]),
    ("DescribeNetworkInterfaces", 404, &[
        ("InvalidEcsId.NotFound", "%s"),
        ("InvalidEniId.NotFound", "%s"),
        ("InvalidVSwitchId.NotFound", "%s"),
        ("InvalidSecurityGroupId.NotFound", "%s"),
    ]),
    ("", 400, &[
        ("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."),
        ("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."),
        ("SignatureNonceUsed", "Specified signature nonce was used already."),
        ("SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:"),
        ("IncompleteSignature", "The request signature does not conform to Aliyun standards."),
        ("IllegalTimestamp", "The input parameter Timestamp is missing."),
        ("Throttling", "Request was denied due to request throttling."),
        ("Throttling.User", "Request was denied due to user flow control."),
        ("Throttling.Api", "Request was denied due to api flow control."),
        ("InvalidSecurityToken.Expired", "Specified SecurityToken is expired."),
        ("IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request."),
        ("LastTokenProcessing", "The last token request is processing."),
        ("UnknownError", "The request processing has failed due to some unknown error."),
    ]),
    ("", 403, &[
        ("Forbidden.RAM", "User not authorized to operate on the specified resource, or this API doesn't support RAM."),
        ("InvalidAction", "Specified action is not valid."),
        ("UnsupportedHTTPMethod", "This http method is not supported."),
    ]),
    ("", 404, &[
        ("InvalidAccessKeyId.NotFound", "Specified access key is not found."),
        ("InvalidProduct.NotFound", "Specified product is not found."),
        ("InvalidApi.NotFound", "Specified api is not found,please check your url and method."),
        ("InvalidProtocol.NeedSsl", "Your request is denied as lack of ssl protect."),
    ]),
    ("", 409, &[
        ("OperationConflict", "The operation against this instance is too frequent, please try again later."),
    ]),
    ("", 500, &[
        ("InternalError", "The request processing has failed due to some unknown error."),
    ]),
    ("", 503, &[
        ("ServiceUnavailable", "The request has failed due to a temporary failure of the server."),
    ]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The vendor's metadata, reduced; its source stands in it.
    const METADATA: &str = include_str!("../../../tests/fixtures/vendor-metadata.json");

    #[test]
    fn the_errors_of_the_eight_actions_are_exactly_those_of_the_metadata() {
        let metadata: serde_json::Value = serde_json::from_str(METADATA).unwrap();
        let mut theirs = BTreeSet::new();
        for (action, described) in metadata["actions"].as_object().unwrap() {
            for (status, errors) in described["errors"].as_object().unwrap() {
                for error in errors.as_array().unwrap() {
                    let [code, message] = [0, 1].map(|part| error[part].as_str().unwrap().to_owned());
                    theirs.insert((action.clone(), status.parse().unwrap(), code, message));
                }
            }
        }
        let ours: BTreeSet<(String, u16, String, String)> = Documented::all()
            .filter(|error| !error.action.is_empty())
            .map(|error| (error.action.into(), error.status, error.code.into(), error.message.into()))
            .collect();
        assert_eq!(ours, theirs);
    }
}
