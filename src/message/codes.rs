//! The code tables of the manual ("Response codes") as the bridge reads them, and the group of a code.
//!
//! The API's codes are open: ids, names and groups that no table has pass through unchanged. What the bridge adds is the
//! stable group, decided by [`status`] and [`error`]. Invariant: a status of which anything known says that it is not
//! delivered is never in the group DELIVERED. The simulator has tables of its own, so that a slip in one shows against the
//! other. Neighbours: `infobip` reads codes off the wire through here, `grpc` lists the tables.

use crate::proto::v1::{self, ErrorGroup, StatusGroup as Group};

/// A row of the manual's table "Statuses".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCode {
    /// Manual: `Id`.
    pub id: i32,
    /// The group behind the manual's `GroupId`.
    pub group: Group,
    /// Manual: `Name`.
    pub name: &'static str,
    /// Manual: `Description`.
    pub description: &'static str,
    /// Manual: `Action`. Empty where it has none.
    pub action: &'static str,
}

/// A row of the manual's table "GSM Error Codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// Manual: `Id`.
    pub id: i32,
    /// The group behind the manual's `GroupId`.
    pub group: ErrorGroup,
    /// Manual: `Name`.
    pub name: &'static str,
    /// Manual: `Description`.
    pub description: &'static str,
    /// Manual: `Is permanent`.
    pub permanent: bool,
}

/// A row of the manual's table "Statuses groups".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusGroupCode {
    /// Manual: `GroupId`.
    pub id: i32,
    /// Manual: `GroupName`.
    pub name: &'static str,
    /// Manual: `Description`.
    pub description: &'static str,
    /// The bridge's name of it.
    pub group: Group,
}

/// A row of the manual's table "Errors groups".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorGroupCode {
    /// Manual: `GroupId`.
    pub id: i32,
    /// Manual: `GroupName`.
    pub name: &'static str,
    /// Manual: `Description`.
    pub description: &'static str,
    /// The bridge's name of it.
    pub group: ErrorGroup,
}

/// All statuses of the manual, by id.
#[must_use]
pub fn statuses() -> &'static [StatusCode] {
    &STATUSES
}

/// All GSM errors of the manual, by id.
#[must_use]
pub fn errors() -> &'static [ErrorCode] {
    &ERRORS
}

/// All status groups of the manual, by id.
#[must_use]
pub fn status_groups() -> &'static [StatusGroupCode] {
    &STATUS_GROUPS
}

/// All error groups of the manual, by id.
#[must_use]
pub fn error_groups() -> &'static [ErrorGroupCode] {
    &ERROR_GROUPS
}

/// A status as the API gave it; what it left out is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusFields {
    /// API: `groupId`.
    pub group_id: Option<i32>,
    /// API: `groupName`.
    pub group_name: String,
    /// API: `id`.
    pub id: Option<i32>,
    /// API: `name`.
    pub name: String,
    /// API: `description`.
    pub description: String,
    /// API: `action`.
    pub action: String,
}

/// An error as the API gave it; what it left out is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// API: `groupId`.
    pub group_id: Option<i32>,
    /// API: `groupName`.
    pub group_name: String,
    /// API: `id`.
    pub id: Option<i32>,
    /// API: `name`.
    pub name: String,
    /// API: `description`.
    pub description: String,
    /// API: `permanent`.
    pub permanent: Option<bool>,
}

/// The contract's status: the API's fields unchanged, and the group that they mean.
#[must_use]
pub fn status(fields: StatusFields) -> v1::Status {
    let group = status_group(&fields);
    v1::Status {
        group_id: fields.group_id.unwrap_or_default(),
        group_name: fields.group_name,
        id: fields.id.unwrap_or_default(),
        name: fields.name,
        description: fields.description,
        action: fields.action,
        group: group.into(),
    }
}

/// The contract's error: the API's fields unchanged, and the group that they mean. Where the API does not say whether it is
/// permanent, the table does; an error that the table has not got is then not permanent, so that nobody gives up a number
/// for it.
#[must_use]
pub fn error(fields: ErrorFields) -> v1::Error {
    let known = errors()
        .iter()
        .find(|row| same_code(row.name, &fields.name))
        .or_else(|| fields.id.and_then(error_by_id));
    let group = error_groups()
        .iter()
        .find(|row| same_code(row.name, &fields.group_name))
        .map(|row| row.group)
        .or_else(|| known.map(|row| row.group))
        .or_else(|| {
            let id = fields.group_id?;
            error_groups()
                .iter()
                .find(|row| row.id == id)
                .map(|row| row.group)
        })
        .unwrap_or_default();
    v1::Error {
        group_id: fields.group_id.unwrap_or_default(),
        group_name: fields.group_name,
        id: fields.id.unwrap_or_default(),
        permanent: fields
            .permanent
            .unwrap_or_else(|| known.is_some_and(|row| row.permanent)),
        name: fields.name,
        description: fields.description,
        action: String::new(),
        group: group.into(),
    }
}

/// Whether nothing more happens to a message whose status is in this group.
#[must_use]
pub fn is_final(group: Group) -> bool {
    match group {
        Group::Undeliverable | Group::Delivered | Group::Expired | Group::Rejected => true,
        Group::Unspecified | Group::Accepted | Group::Pending => false,
    }
}

/// The group of a status: a known group name, the table by name, the table by id, the group id; the first of them that says
/// anything. What is unknown says nothing. Where one of them says DELIVERED and another does not, the first of those that do
/// not wins: the manual's own sample of an intermediate report has the group id of DELIVERED and the name
/// PENDING_WAITING_DELIVERY (WIRE.md, "Push"), and telling a service that an undelivered message was delivered is worse
/// than being late.
fn status_group(fields: &StatusFields) -> Group {
    // The rule that almost every status of a busy bridge takes: all fields as in one row of the table.
    if let Some(row) = fields.id.and_then(status_by_id)
        && row.name == fields.name
        && let Some(group) = group_by_id(fields.group_id)
        && row.group == group.group
        && group.name == fields.group_name
    {
        return row.group;
    }
    let said = [
        status_groups()
            .iter()
            .find(|row| same_code(row.name, &fields.group_name))
            .map(|row| row.group),
        statuses()
            .iter()
            .find(|row| same_code(row.name, &fields.name))
            .map(|row| row.group),
        fields.id.and_then(status_by_id).map(|row| row.group),
        group_by_id(fields.group_id).map(|row| row.group),
    ];
    let mut said = said.into_iter().flatten();
    match said.next() {
        Some(Group::Delivered) => said
            .find(|group| *group != Group::Delivered)
            .unwrap_or(Group::Delivered),
        Some(group) => group,
        None => Group::Unspecified,
    }
}

fn status_by_id(id: i32) -> Option<&'static StatusCode> {
    let at = STATUSES.binary_search_by_key(&id, |row| row.id).ok()?;
    STATUSES.get(at)
}

fn error_by_id(id: i32) -> Option<&'static ErrorCode> {
    let at = ERRORS.binary_search_by_key(&id, |row| row.id).ok()?;
    ERRORS.get(at)
}

fn group_by_id(id: Option<i32>) -> Option<&'static StatusGroupCode> {
    STATUS_GROUPS.get(usize::try_from(id?).ok()?)
}

/// Whether a name off the wire is this one: sources differ in case (`Ok`, `OK`), and printed samples have spaces where the
/// tables have underscores.
fn same_code(known: &str, said: &str) -> bool {
    let said = said.trim();
    known.len() == said.len()
        && known.bytes().zip(said.bytes()).all(|(known, said)| {
            known.eq_ignore_ascii_case(&said) || (known == b'_' && said == b' ')
        })
}

const fn status_row(
    id: i32,
    group: Group,
    name: &'static str,
    description: &'static str,
    action: &'static str,
) -> StatusCode {
    StatusCode {
        id,
        group,
        name,
        description,
        action,
    }
}

const fn error_row(
    id: i32,
    group: ErrorGroup,
    name: &'static str,
    description: &'static str,
    permanent: bool,
) -> ErrorCode {
    ErrorCode {
        id,
        group,
        name,
        description,
        permanent,
    }
}

const fn group_row(
    id: i32,
    name: &'static str,
    description: &'static str,
    group: Group,
) -> StatusGroupCode {
    StatusGroupCode {
        id,
        name,
        description,
        group,
    }
}

const fn error_group_row(
    id: i32,
    name: &'static str,
    description: &'static str,
    group: ErrorGroup,
) -> ErrorGroupCode {
    ErrorGroupCode {
        id,
        name,
        description,
        group,
    }
}

#[rustfmt::skip]
static STATUS_GROUPS: [StatusGroupCode; 6] = [
    group_row(0, "ACCEPTED", "Message is accepted.", Group::Accepted),
    group_row(1, "PENDING", "Message is in pending status.", Group::Pending),
    group_row(2, "UNDELIVERABLE", "Message is undeliverable.", Group::Undeliverable),
    group_row(3, "DELIVERED", "Message is delivered.", Group::Delivered),
    group_row(4, "EXPIRED", "Message is expired.", Group::Expired),
    group_row(5, "REJECTED", "Message is rejected.", Group::Rejected),
];

#[rustfmt::skip]
static ERROR_GROUPS: [ErrorGroupCode; 4] = [
    error_group_row(0, "OK", "No error.", ErrorGroup::Ok),
    error_group_row(1, "HANDSET_ERRORS", "Handset error occurred.", ErrorGroup::Handset),
    error_group_row(2, "USER_ERRORS", "User error occurred.", ErrorGroup::User),
    error_group_row(3, "OPERATOR_ERRORS", "Operator error occurred.", ErrorGroup::Operator),
];

/// Sorted by id. The spelling is the manual's ("validty"). Id 0 stands in its samples, not in its table.
#[rustfmt::skip]
static STATUSES: [StatusCode; 34] = [
    status_row(0, Group::Accepted, "MESSAGE_ACCEPTED", "Message accepted", ""),
    status_row(1, Group::Pending, "PENDING_TIME_VIOLATION", "Time window violation", ""),
    status_row(2, Group::Delivered, "DELIVERED_TO_OPERATOR", "Message delivered to operator", ""),
    status_row(3, Group::Pending, "PENDING_WAITING_DELIVERY", "Message sent, waiting for delivery report", ""),
    status_row(4, Group::Undeliverable, "UNDELIVERABLE_REJECTED_OPERATOR", "Message rejected by operator", ""),
    status_row(5, Group::Delivered, "DELIVERED_TO_HANDSET", "Message delivered to handset", ""),
    status_row(6, Group::Rejected, "REJECTED_NETWORK", "Network is forbidden", "Contact account manager"),
    status_row(7, Group::Pending, "PENDING_ENROUTE", "Message sent to next instance", ""),
    status_row(8, Group::Rejected, "REJECTED_PREFIX_MISSING", "Number prefix missing", ""),
    status_row(9, Group::Undeliverable, "UNDELIVERABLE_NOT_DELIVERED", "Message sent not delivered", ""),
    status_row(10, Group::Rejected, "REJECTED_DND", "Destination on DND list", ""),
    status_row(11, Group::Rejected, "REJECTED_SOURCE", "Invalid Source address", ""),
    status_row(12, Group::Rejected, "REJECTED_NOT_ENOUGH_CREDIT", "Not enough credits", ""),
    status_row(13, Group::Rejected, "REJECTED_SENDER", "By Sender", "Remove sender from blacklist"),
    status_row(14, Group::Rejected, "REJECTED_DESTINATION", "By Destination", "Remove destination from blacklist"),
    status_row(15, Group::Expired, "EXPIRED_EXPIRED", "Message expired", ""),
    status_row(16, Group::Rejected, "REJECTED_NOT_REACHABLE", "Network not reachable", ""),
    status_row(17, Group::Rejected, "REJECTED_PREPAID_PACKAGE_EXPIRED", "Prepaid package expired", "Top-Up your account to extend the validty period"),
    status_row(18, Group::Rejected, "REJECTED_DESTINATION_NOT_REGISTERED", "Destination not registered", ""),
    status_row(19, Group::Rejected, "REJECTED_ROUTE_NOT_AVAILABLE", "Route not available", "Contact account manager"),
    status_row(20, Group::Rejected, "REJECTED_FLOODING_FILTER", "Rejected flooding", "STOP SPAMMING"),
    status_row(21, Group::Rejected, "REJECTED_SYSTEM_ERROR", "System error", "Try again"),
    status_row(22, Group::Expired, "EXPIRED_UNKNOWN", "Unknown Reason", ""),
    status_row(23, Group::Rejected, "REJECTED_DUPLICATE_MESSAGE_ID", "Rejected duplicate message ID", ""),
    status_row(24, Group::Rejected, "REJECTED_INVALID_UDH", "Rejected invalid UDH", ""),
    status_row(25, Group::Rejected, "REJECTED_MESSAGE_TOO_LONG", "Rejected message too long", ""),
    status_row(26, Group::Pending, "PENDING_ACCEPTED", "Pending Accepted", ""),
    status_row(27, Group::Pending, "PENDING_APPROVAL", "Pending Approval", ""),
    status_row(28, Group::Rejected, "REJECTED_NOT_SENT", "Rejected Not Sent", ""),
    status_row(29, Group::Expired, "EXPIRED_DLR_UNKNOWN", "Expired DLR Unknown", ""),
    status_row(30, Group::Delivered, "DELIVERED", "MO forwarded action completed", ""),
    status_row(31, Group::Undeliverable, "UNDELIVERABLE_NOT_SENT", "Message not sent", ""),
    status_row(51, Group::Rejected, "MISSING_TO", "Missing destination", "Check to parameter."),
    status_row(52, Group::Rejected, "REJECTED_DESTINATION", "Invalid destination address.", "Check to parameter."),
];

/// Sorted by id. The spelling is the manual's ("Ressource", "Realeased").
#[rustfmt::skip]
static ERRORS: [ErrorCode; 91] = [
    error_row(0, ErrorGroup::Ok, "NO_ERROR", "No Error", false),
    error_row(1, ErrorGroup::Handset, "EC_UNKNOWN_SUBSCRIBER", "Unknown Subscriber", true),
    error_row(5, ErrorGroup::Handset, "EC_UNIDENTIFIED_SUBSCRIBER", "Unidentified Subscriber", false),
    error_row(6, ErrorGroup::Handset, "EC_ABSENT_SUBSCRIBER_SM", "Absent Subscriber", false),
    error_row(9, ErrorGroup::Handset, "EC_ILLEGAL_SUBSCRIBER", "Illegal Subscriber", true),
    error_row(10, ErrorGroup::Operator, "EC_BEARER_SERVICE_NOT_PROVISIONED", "Bearer Service Not Provisioned", true),
    error_row(11, ErrorGroup::Handset, "EC_TELESERVICE_NOT_PROVISIONED", "Teleservice Not Provisioned", true),
    error_row(12, ErrorGroup::Handset, "EC_ILLEGAL_EQUIPMENT", "Illegal Equipment", true),
    error_row(13, ErrorGroup::Handset, "EC_CALL_BARRED", "Call Barred", false),
    error_row(20, ErrorGroup::Operator, "EC_SS_INCOMPATIBILITY", "SS Incompatibility", false),
    error_row(21, ErrorGroup::Handset, "EC_FACILITY_NOT_SUPPORTED", "Facility Not Supported", false),
    error_row(27, ErrorGroup::Handset, "EC_ABSENT_SUBSCRIBER", "Absent Subscriber", false),
    error_row(31, ErrorGroup::Handset, "EC_SUBSCRIBER_BUSY_FOR_MT_SMS", "Subscriber Busy For Mt SMS", false),
    error_row(32, ErrorGroup::Handset, "EC_SM_DELIVERY_FAILURE", "SM Delivery Failure", false),
    error_row(33, ErrorGroup::Handset, "EC_MESSAGE_WAITING_LIST_FULL", "Message Waiting List Full", false),
    error_row(34, ErrorGroup::Handset, "EC_SYSTEM_FAILURE", "System Failure", false),
    error_row(35, ErrorGroup::Handset, "EC_DATA_MISSING", "Data Missing", false),
    error_row(36, ErrorGroup::Handset, "EC_UNEXPECTED_DATA_VALUE", "Unexpected Data Value", false),
    error_row(51, ErrorGroup::Operator, "EC_RESOURCE_LIMITATION", "Resource Limitation", true),
    error_row(71, ErrorGroup::Operator, "EC_UNKNOWN_ALPHABET", "Unknown Alphabet", false),
    error_row(72, ErrorGroup::Handset, "EC_USSD_BUSY", "Ussd Busy", true),
    error_row(255, ErrorGroup::Handset, "EC_UNKNOWN_ERROR", "Unknown Error", false),
    error_row(256, ErrorGroup::Handset, "EC_SM_DF_MEMORYCAPACITYEXCEEDED", "SM DF Memory Capacity Exceeded", false),
    error_row(257, ErrorGroup::Handset, "EC_SM_DF_EQUIPMENTPROTOCOLERROR", "SM DF Equipment Protocol Error", false),
    error_row(258, ErrorGroup::Handset, "EC_SM_DF_EQUIPMENTNOTSM_EQUIPPED", "SM DF Equipment Not SM Equipped", false),
    error_row(259, ErrorGroup::Handset, "EC_SM_DF_UNKNOWNSERVICECENTRE", "SM DF Unknown Service Centre", false),
    error_row(260, ErrorGroup::Handset, "EC_SM_DF_SC_CONGESTION", "SM DF Sc Congestion", false),
    error_row(261, ErrorGroup::Handset, "EC_SM_DF_INVALIDSME_ADDRESS", "SM DF InvalidSME Address", false),
    error_row(262, ErrorGroup::Handset, "EC_SM_DF_SUBSCRIBERNOTSC_SUBSCRIBER", "SM DF Subscribernotsc Subscriber", false),
    error_row(500, ErrorGroup::Handset, "EC_PROVIDER_GENERAL_ERROR", "Provider General Error", false),
    error_row(501, ErrorGroup::Operator, "EC_INVALID_RESPONSE_RECEIVED", "Invalid Response Received", false),
    error_row(502, ErrorGroup::Handset, "EC_NO_RESPONSE", "No Response", false),
    error_row(503, ErrorGroup::Handset, "EC_SERVICE_COMPLETION_FAILURE", "Service Completion Failure", false),
    error_row(504, ErrorGroup::Handset, "EC_UNEXPECTED_RESPONSE_FROM_PEER", "Unexpected Response From Peer", false),
    error_row(507, ErrorGroup::Handset, "EC_MISTYPED_PARAMETER", "Mistyped Parameter", false),
    error_row(508, ErrorGroup::Handset, "EC_NOT_SUPPORTED_SERVICE", "Supported Service", false),
    error_row(509, ErrorGroup::Handset, "EC_DUPLICATED_INVOKE_ID", "Duplicated Invoke Id", false),
    error_row(511, ErrorGroup::Handset, "EC_INITIATING_RELEASE", "Initiating Release", true),
    error_row(1024, ErrorGroup::Handset, "EC_OR_APPCONTEXTNOTSUPPORTED", "App Context Not Supported", false),
    error_row(1025, ErrorGroup::Handset, "EC_OR_INVALIDDESTINATIONREFERENCE", "Invalid Destination Reference", false),
    error_row(1026, ErrorGroup::Handset, "EC_OR_INVALIDORIGINATINGREFERENCE", "Invalid Originating Reference", false),
    error_row(1027, ErrorGroup::Handset, "EC_OR_ENCAPSULATEDAC_NOTSUPPORTED", "Encapsulated AC Not Supported", false),
    error_row(1028, ErrorGroup::Handset, "EC_OR_TRANSPORTPROTECTIONNOTADEQUATE", "Transport Protection Not Adequate", false),
    error_row(1029, ErrorGroup::Handset, "EC_OR_NOREASONGIVEN", "No Reason Given", false),
    error_row(1030, ErrorGroup::Handset, "EC_OR_POTENTIALVERSIONINCOMPATIBILITY", "Potential Version Incompatibility", false),
    error_row(1031, ErrorGroup::Handset, "EC_OR_REMOTENODENOTREACHABLE", "Remote Node Not Reachable", false),
    error_row(1152, ErrorGroup::Handset, "EC_NNR_NOTRANSLATIONFORANADDRESSOFSUCHNATURE", "No Translation For An Address Of Such Nature", false),
    error_row(1153, ErrorGroup::Handset, "EC_NNR_NOTRANSLATIONFORTHISSPECIFICADDRESS", "No Translation For This Specific Address", false),
    error_row(1154, ErrorGroup::Handset, "EC_NNR_SUBSYSTEMCONGESTION", "Subsystem Congestion", false),
    error_row(1155, ErrorGroup::Handset, "EC_NNR_SUBSYSTEMFAILURE", "Subsystem Failure", false),
    error_row(1156, ErrorGroup::Handset, "EC_NNR_UNEQUIPPEDUSER", "Unequipped User", false),
    error_row(1157, ErrorGroup::Handset, "EC_NNR_MTPFAILURE", "MTP Failure", false),
    error_row(1158, ErrorGroup::Handset, "EC_NNR_NETWORKCONGESTION", "Network Congestion", false),
    error_row(1159, ErrorGroup::Handset, "EC_NNR_UNQUALIFIED", "Unqualified", false),
    error_row(1160, ErrorGroup::Handset, "EC_NNR_ERRORINMESSAGETRANSPORTXUDT", "Error In Message Transport XUDT", false),
    error_row(1161, ErrorGroup::Handset, "EC_NNR_ERRORINLOCALPROCESSINGXUDT", "Error In Local Processing XUDT", false),
    error_row(1162, ErrorGroup::Handset, "EC_NNR_DESTINATIONCANNOTPERFORMREASSEMBLYXUDT", "Destination Cannot Perform Reassembly XUDT", false),
    error_row(1163, ErrorGroup::Handset, "EC_NNR_SCCPFAILURE", "SCCP Failure", false),
    error_row(1164, ErrorGroup::Handset, "EC_NNR_HOPCOUNTERVIOLATION", "Hop Counter Violation", false),
    error_row(1165, ErrorGroup::Handset, "EC_NNR_SEGMENTATIONNOTSUPPORTED", "Segmentation Not Supported", false),
    error_row(1166, ErrorGroup::Handset, "EC_NNR_SEGMENTATIONFAILURE", "Segmentation Failure", false),
    error_row(1281, ErrorGroup::Handset, "EC_UA_USERSPECIFICREASON", "User Specific Reason", false),
    error_row(1282, ErrorGroup::Handset, "EC_UA_USERRESOURCELIMITATION", "User Resource Limitation", false),
    error_row(1283, ErrorGroup::Handset, "EC_UA_RESOURCEUNAVAILABLE", "Resource Unavailable", false),
    error_row(1284, ErrorGroup::Handset, "EC_UA_APPLICATIONPROCEDURECANCELLATION", "Application Procedure Cancellation", false),
    error_row(1536, ErrorGroup::Handset, "EC_PA_PROVIDERMALFUNCTION", "Provider Malfunction", false),
    error_row(1537, ErrorGroup::Handset, "EC_PA_SUPPORTINGDIALOGORTRANSACTIONREALEASED", "Supporting Dialog Or Transaction Realeased", false),
    error_row(1538, ErrorGroup::Handset, "EC_PA_RESSOURCELIMITATION", "Ressource Limitation", false),
    error_row(1539, ErrorGroup::Handset, "EC_PA_MAINTENANCEACTIVITY", "Maintenance Activity", false),
    error_row(1540, ErrorGroup::Handset, "EC_PA_VERSIONINCOMPATIBILITY", "Version Incompatibility", false),
    error_row(1541, ErrorGroup::Handset, "EC_PA_ABNORMALMAPDIALOG", "Abnormal Map Dialog", false),
    error_row(1792, ErrorGroup::Handset, "EC_NC_ABNORMALEVENTDETECTEDBYPEER", "Abnormal Event Detected By Peer", false),
    error_row(1793, ErrorGroup::Handset, "EC_NC_RESPONSEREJECTEDBYPEER", "Response Rejected By Peer", false),
    error_row(1794, ErrorGroup::Handset, "EC_NC_ABNORMALEVENTRECEIVEDFROMPEER", "Abnormal Event Received From Peer", false),
    error_row(1795, ErrorGroup::Handset, "EC_NC_MESSAGECANNOTBEDELIVEREDTOPEER", "Message Cannot Be Delivered To Peer", false),
    error_row(1796, ErrorGroup::Handset, "EC_NC_PROVIDEROUTOFINVOKE", "Provider Out Of Invoke", false),
    error_row(2048, ErrorGroup::Operator, "EC_TIME_OUT", "Time Out", false),
    error_row(2049, ErrorGroup::User, "EC_IMSI_BLACKLISTED", "IMSI blacklisted", true),
    error_row(2050, ErrorGroup::Operator, "EC_DEST_ADDRESS_BLACKLISTED", "DND blacklisted", true),
    error_row(2051, ErrorGroup::Operator, "EC_INVALIDMSCADDRESS", "Text blacklisted", false),
    error_row(4096, ErrorGroup::User, "EC_INVALID_PDU_FORMAT", "Invalid PDU Format", true),
    error_row(4097, ErrorGroup::Operator, "EC_NOTSUBMITTEDTOGMSC", "Not Submitted To GMSC", false),
    error_row(4100, ErrorGroup::User, "EC_MESSAGE_CANCELED", "Message canceled", true),
    error_row(4101, ErrorGroup::User, "EC_VALIDITYEXPIRED", "Validity Expired", true),
    error_row(4102, ErrorGroup::Operator, "EC_NOTSUBMITTEDTOSMPPCHANNEL", "Not Submitted To Smpp Channel", true),
    error_row(5000, ErrorGroup::Ok, "VOICE_ANSWERED", "Call answered by human", true),
    error_row(5001, ErrorGroup::Ok, "VOICE_ANSWERED_MACHINE", "Call answered by machine", true),
    error_row(5002, ErrorGroup::User, "EC_VOICE_USER_BUSY", "User was busy during call attempt", true),
    error_row(5003, ErrorGroup::User, "EC_VOICE_NO_ANSWER", "User was notified, but did not answer call", true),
    error_row(5004, ErrorGroup::User, "EC_VOICE_ERROR_DOWNLOADING_FILE", "File provided for call could not be downloaded", true),
    error_row(5005, ErrorGroup::User, "EC_VOICE_ERROR_UNSUPPORTED_AUDIO_FORMAT", "Format of file provided for call is not supported", true),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group_id: Option<i32>, group_name: &str, id: Option<i32>, name: &str) -> Group {
        status(StatusFields {
            group_id,
            group_name: group_name.into(),
            id,
            name: name.into(),
            ..StatusFields::default()
        })
        .group()
    }

    #[test]
    fn tables_are_sorted_and_every_row_finds_its_own_group() {
        assert!(statuses().is_sorted_by(|a, b| a.id < b.id));
        assert!(errors().is_sorted_by(|a, b| a.id < b.id));
        for row in statuses() {
            let entry = status_groups()
                .iter()
                .find(|entry| entry.group == row.group)
                .unwrap();
            let found = group(Some(entry.id), entry.name, Some(row.id), row.name);
            assert_eq!(found, row.group, "{row:?}");
            assert_eq!(group(None, "", Some(row.id), ""), row.group, "{row:?}");
            assert_eq!(group(None, "", None, row.name), row.group, "{row:?}");
        }
    }

    #[test]
    fn the_tables_agree_with_the_simulators() {
        use crate::simulator::codes;
        let ours: Vec<_> = statuses()
            .iter()
            .map(|row| {
                let action = Some(row.action).filter(|action| !action.is_empty());
                let group = row.group as u8 - 1;
                (row.id, group, row.name, row.description, action)
            })
            .collect();
        let theirs: Vec<_> = codes::STATUSES
            .iter()
            .map(|row| {
                (
                    i32::from(row.id),
                    row.group_id,
                    row.name,
                    row.description,
                    row.action,
                )
            })
            .collect();
        assert_eq!(ours, theirs);
        let ours: Vec<_> = errors()
            .iter()
            .map(|row| {
                (
                    row.id,
                    row.group as u8 - 1,
                    row.name,
                    row.description,
                    row.permanent,
                )
            })
            .collect();
        let theirs: Vec<_> = codes::ERRORS
            .iter()
            .map(|row| {
                (
                    i32::from(row.id),
                    row.group_id,
                    row.name,
                    row.description,
                    row.permanent,
                )
            })
            .collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn the_manuals_intermediate_sample_is_pending() {
        let sample = group(Some(3), "PENDING", Some(1), "PENDING_WAITING_DELIVERY");
        assert_eq!(sample, Group::Pending);
        assert!(!is_final(sample));
    }

    #[test]
    fn what_disagrees_is_never_delivered() {
        for (fields, expected) in [
            (
                (Some(3), "DELIVERED", Some(3), "PENDING_WAITING_DELIVERY"),
                Group::Pending,
            ),
            (
                (Some(3), "DELIVERED", Some(9), "NEVER_HEARD_OF"),
                Group::Undeliverable,
            ),
            (
                (Some(1), "", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Pending,
            ),
            (
                (Some(2), "", Some(5), "NEVER_HEARD_OF"),
                Group::Undeliverable,
            ),
            (
                (Some(3), "DELIVERED", Some(15), "DELIVERED_TO_HANDSET"),
                Group::Expired,
            ),
            (
                (Some(3), "REJECTED", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Rejected,
            ),
        ] {
            let (group_id, group_name, id, name) = fields;
            assert_eq!(
                group(group_id, group_name, id, name),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn what_is_unknown_or_missing_says_nothing() {
        for (fields, expected) in [
            ((None, "DELIVERED", None, ""), Group::Delivered),
            ((None, "", None, "DELIVERED TO HANDSET"), Group::Delivered),
            (
                (Some(3), "Delivered", Some(777), "DELIVERED_TO_THE_MOON"),
                Group::Delivered,
            ),
            (
                (Some(3), "TELEPORTED", Some(5), "TELEPORTED_TO_HANDSET"),
                Group::Delivered,
            ),
            (
                (Some(77), "TELEPORTED", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Delivered,
            ),
            ((Some(4), "", Some(777), ""), Group::Expired),
            (
                (Some(6), "TELEPORTED", Some(777), "TELEPORTED"),
                Group::Unspecified,
            ),
            ((Some(-1), "", Some(-1), ""), Group::Unspecified),
            ((None, "", None, ""), Group::Unspecified),
        ] {
            let (group_id, group_name, id, name) = fields;
            assert_eq!(
                group(group_id, group_name, id, name),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn codes_pass_through_unchanged() {
        let odd = status(StatusFields {
            group_id: Some(9),
            group_name: "TELEPORTED".into(),
            id: Some(4242),
            name: "BEAMED_UP".into(),
            description: "Gone".into(),
            action: "Look up".into(),
        });
        assert_eq!(
            (
                odd.group_id,
                odd.group_name.as_str(),
                odd.id,
                odd.name.as_str()
            ),
            (9, "TELEPORTED", 4242, "BEAMED_UP")
        );
        assert_eq!(
            (odd.description.as_str(), odd.action.as_str()),
            ("Gone", "Look up")
        );
    }

    #[test]
    fn errors_find_their_group_and_whether_they_are_permanent() {
        let said = error(ErrorFields {
            group_id: Some(0),
            group_name: "Ok".into(),
            id: Some(0),
            name: "NO_ERROR".into(),
            permanent: Some(false),
            ..ErrorFields::default()
        });
        assert_eq!((said.group(), said.permanent), (ErrorGroup::Ok, false));
        let from_table = error(ErrorFields {
            id: Some(1),
            ..ErrorFields::default()
        });
        assert_eq!(
            (from_table.group(), from_table.permanent),
            (ErrorGroup::Handset, true)
        );
        let overruled = error(ErrorFields {
            id: Some(1),
            permanent: Some(false),
            ..ErrorFields::default()
        });
        assert!(!overruled.permanent);
        let unknown = error(ErrorFields {
            id: Some(9999),
            group_id: Some(3),
            ..ErrorFields::default()
        });
        assert_eq!(
            (unknown.group(), unknown.permanent),
            (ErrorGroup::Operator, false)
        );
        assert_eq!(
            error(ErrorFields::default()).group(),
            ErrorGroup::Unspecified
        );
    }

    #[test]
    fn only_four_groups_are_final() {
        let last: Vec<_> = status_groups()
            .iter()
            .filter(|row| is_final(row.group))
            .map(|row| row.name)
            .collect();
        assert_eq!(last, ["UNDELIVERABLE", "DELIVERED", "EXPIRED", "REJECTED"]);
        assert!(!is_final(Group::Unspecified));
    }
}
