//! Every way in which the simulated cloud refuses, with the status, code and message of aliyun-api.md §3 (exact where
//! that page has a table). Where no page says which code answers which fault, the choice is said to be inferred.

use serde::{Deserialize, Serialize};

/// A refusal as the wire shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Code.
    pub code: String,
    /// Message.
    pub message: String,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $message:literal;)*) => {
        impl Refusal {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name() -> Self {
                    Self::new($status, $code, $message)
                }
            )*
        }
    };
}

refusals! {
    /// No such table, to `CreateForwardEntry` and `DeleteForwardEntry`.
    table_not_found = 404 "InvalidForwardTableId.NotFound" "Specified forward table does not exist.";
    /// No such table, to `DescribeForwardTableEntries`.
    listed_table_not_found = 404 "InvalidForwardTableId.NotFound" "Specified forwardTableId does not exist";
    /// Neither table nor gateway is named.
    no_table_named = 400 "DESCRIBE_FORWARD_PARAM_INVALID" "ForwardTableId and natGatewayId can not both be null";
    /// No such entry in that table.
    entry_not_found = 404 "InvalidForwardEntryId.NotFound" "Specified forward entry ID does not exist";
    /// All five are those of an existing entry.
    duplicated = 400 "ForwardEntry.Duplicated" "The specified ExternalIp, IpProtocol, ExternalPort,InternalIp, InternalPort  is duplicated";
    /// The external address, port and protocol are taken (which code answers which clash is inferred).
    external_taken = 400 "DuplicatedParam.ExternalPort" "The param of ExternalPort is duplicated.";
    /// The internal address, port and protocol are taken (inferred, as above).
    internal_taken = 400 "DuplicatedParam.InternalPort" "The param of InternalPort is duplicated.";
    /// `Any` on one side or in the protocol alone.
    any_alone = 400 "OperationFailed.AnyPortConfig" "Operation failed because any port correspondence any protocol";
    /// The EIP is the account's, but not this gateway's.
    eip_elsewhere = 400 "InvalidIp.NotInNatgw" "The specified Ip not belong to natgateway.";
    /// The account has no such EIP.
    eip_not_found = 404 "InvalidExternalIp.NotFound" "Specified External Ip address does not found on the VRouter";
    /// The EIP is being bound or unbound.
    eip_in_binding = 400 "OperationUnsupported.EipInBinding" "Create snat entry with eip in associating status is unsupported.";
    /// SNAT uses the EIP, the port is above 1024 and PortBreak is not set (the code is inferred).
    eip_used_by_snat = 400 "Forbidden.ExternalIp.UsedInSnatTable" "The specified ExternalIp is already used in SnatTable";
    /// ExternalIp is no address.
    external_ip_malformed = 400 "InvalidExternalIp.Malformed" "The specified ExternalIp is not a valid IP address.";
    /// InternalIp is no address.
    internal_ip_malformed = 400 "InvalidInternalIp.Malformed" "The specified InternalIp is not a valid IP address.";
    /// ExternalPort is no port.
    external_port_malformed = 400 "InvalidExternalPort.Malformed" "The specified ExternalPort is not a valid port.";
    /// InternalPort is no port, or its range is of another length than the external one's.
    internal_port_malformed = 400 "InvalidInternalPort.Malformed" "The specified InternalPort is not a valid port.";
    /// IpProtocol is none of the three.
    protocol_not_supported = 400 "InvalidProtocal.ValueNotSupported" "The specified IpProtocol does not support.";
    /// InternalIp lies outside the VPC.
    outside_vpc = 400 "Forbidden.DestnationIpOutOfVpcCIDR" "The specified Internal Ip is Out of VPC CIDR.";
    /// ForwardEntryName breaks its rule.
    name_malformed = 400 "InvalidParameter.Name.Malformed" "The specified Name is not valid.";
    /// A mandatory parameter is missing, where VPC itself looks.
    parameter_missing = 400 "MissingParameter" "Missing mandatory parameter";
    /// Another entry of the table is Pending.
    blocked_by_entry = 400 "IncorretForwardEntryStatus" "Some Forward entry status blocked this operation..";
    /// The entry itself is Pending.
    entry_unstable = 400 "IncorretForwardEntryStatus" "The Specified forwardEntry is not stable status, can not operation";
    /// The entry itself is Deleting.
    entry_deleting = 400 "IncorrectStatus.ForwardEntry" "The status of ForwardEntry [Deleting] is incorrect.";
    /// The gateway is not Available, to a creation.
    gateway_unavailable = 400 "IncorrectStatus.NATGW" "NATGW status is invalid.";
    /// The gateway is not Available, to a deletion.
    gateway_abnormal = 400 "IncorrectStatus.NATGW" "The status of the specified NAT gateway is abnormal.";
    /// The token was used with other parameters.
    token_mismatch = 400 "IdempotentParameterMismatch" "The request uses the same client token as a previous, but non-identical request.";
    /// The earlier request with this token still runs.
    token_processing = 400 "LastTokenProcessing" "The last token request is processing.";
    /// ClientToken is empty, longer than 64 characters, or not ASCII.
    token_malformed = 400 "InvalidParameter" "The specified parameter ClientToken is not valid.";
    /// DryRun, and the request would have been accepted.
    dry_run = 400 "DryRunOperation" "Request validation has been passed with DryRun flag set.";
    /// Another operation on the gateway is running.
    operation_conflict = 409 "OperationConflict" "The operation against this instance is too frequent, please try again later.";
    /// The older spelling of the same.
    task_conflict = 400 "TaskConflict" "The operation is too frequent, please wait a moment and try again.";
    /// Flow control.
    throttled = 400 "Throttling.User" "Request was denied due to user flow control.";
    /// Flow control of one action.
    api_throttled = 400 "Throttling.Api" "Request was denied due to api flow control.";
    /// Something broke inside; the request may have been applied.
    internal_error = 500 "InternalError" "The request processing has failed due to some unknown error.";
    /// A code that no page names.
    unheard_of = 400 "OperationSuspended.Novel" "The operation has been suspended for a reason that is not documented.";
    /// The temporary key is past its end (its status is documented nowhere).
    security_token_expired = 400 "InvalidSecurityToken.Expired" "Specified SecurityToken is expired.";
    /// The token is not this key's (its code is inferred).
    security_token_mismatched = 400 "InvalidSecurityToken.MismatchWithAccessKey" "Specified SecurityToken mismatch with the AccessKey.";
    /// The AccessKeyId does not exist.
    access_key_unknown = 404 "InvalidAccessKeyId.NotFound" "Specified access key is not found.";
    /// The secret is another. The vendor's SDKs look for what follows the colon.
    signature_mismatch = 400 "SignatureDoesNotMatch" "Specified signature is not matched with our calculation. server string to sign is:";
    /// The caller's clock is more than 15 minutes from ours.
    timestamp_expired = 400 "InvalidTimeStamp.Expired" "Specified time stamp or date value is expired.";
    /// The policy does not allow it.
    forbidden_by_ram = 403 "Forbidden.RAM" "User not authorized to operate on the specified resource, or this API doesn't support RAM.";
    /// Nobody home.
    service_unavailable = 503 "ServiceUnavailable" "The request has failed due to a temporary failure of the server.";
    /// The route table does not exist.
    route_table_not_found = 400 "InvalidRouteTable.NotFound" "The specified route table does not exist.";
    /// NextToken of a listing of routes is not one that was given out.
    route_token_illegal = 400 "IllegalParam.NextToken" "User nextToken is illegal.";
    /// The gateway to which an EIP is to be bound does not exist.
    gateway_not_found = 400 "Invalid.natgwNotExist" "The specified natgateway not exist.";
    /// An EIP with entries is to be unbound.
    eip_has_entries = 400 "InvalidIpStatus.HasBeenUsedByForwardEntry" "The specified Ip has been used by forward entry.";
}

impl Refusal {
    /// A refusal in the wire's words.
    #[must_use]
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The table is full. The message's two numbers are usage and limit.
    #[must_use]
    pub fn quota(usage: usize, limit: u32) -> Self {
        let message = format!("The quota of natgw_quota_dnat_entry_num is exceeded, usage {usage}/{limit}.");
        Self::new(400, "QuotaExceeded.ForwardEntry", message)
    }

    /// A parameter's value is outside its documented bounds (no page names VPC's own code for it).
    #[must_use]
    pub fn parameter(name: &str) -> Self {
        Self::new(400, "InvalidParameter", format!("The specified parameter {name} is not valid."))
    }
}
