//! The two code tables of the manual ("RESPONSE CODES"), complete: 34 statuses and 91 GSM errors.
//!
//! Both tables are sorted by id, as the binary searches require. The simulator's tables are independent of the
//! bridge's, so that tests find a mistake in either. Neighbours: [`id`] names the codes that the simulator
//! chooses by itself; `render` writes a code into a response.

pub(crate) mod id;

/// A status of the manual's table "Statuses": the state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCode {
    /// The manual's `id`.
    pub id: u16,
    /// The manual's `groupId`, 0 to 5.
    pub group_id: u8,
    /// The manual's `groupName` ("Statuses groups").
    pub group_name: &'static str,
    /// The manual's `name`.
    pub name: &'static str,
    /// The manual's `description`.
    pub description: &'static str,
    /// The manual's `action`: what the sender can do. `None` if the manual names no action.
    pub action: Option<&'static str>,
}

/// A row of the manual's table "GSM Error Codes": why a message was not delivered, or NO_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// The manual's `id`.
    pub id: u16,
    /// The manual's `groupId`, 0 to 3.
    pub group_id: u8,
    /// The manual's `groupName` ("Errors groups").
    pub group_name: &'static str,
    /// The manual's `name`.
    pub name: &'static str,
    /// The manual's `description`.
    pub description: &'static str,
    /// Whether a further attempt is pointless (`permanent`).
    pub permanent: bool,
}

/// The status with this id, if the manual has it.
pub fn status(id: u16) -> Option<&'static StatusCode> {
    STATUSES
        .binary_search_by_key(&id, |row| row.id)
        .ok()
        .map(|index| &STATUSES[index])
}

/// The GSM error with this id, if the manual has it.
pub fn error(id: u16) -> Option<&'static ErrorCode> {
    ERRORS
        .binary_search_by_key(&id, |row| row.id)
        .ok()
        .map(|index| &ERRORS[index])
}

/// The name of a status group ("Statuses groups").
const fn status_group(group_id: u8) -> &'static str {
    match group_id {
        0 => "ACCEPTED",
        1 => "PENDING",
        2 => "UNDELIVERABLE",
        3 => "DELIVERED",
        4 => "EXPIRED",
        _ => "REJECTED",
    }
}

/// The name of an error group ("Errors groups").
const fn error_group(group_id: u8) -> &'static str {
    match group_id {
        0 => "OK",
        1 => "HANDSET_ERRORS",
        2 => "USER_ERRORS",
        _ => "OPERATOR_ERRORS",
    }
}

/// One row of [`STATUSES`] without an `action`.
const fn row(id: u16, group_id: u8, name: &'static str, description: &'static str) -> StatusCode {
    StatusCode {
        id,
        group_id,
        group_name: status_group(group_id),
        name,
        description,
        action: None,
    }
}

/// One row of [`STATUSES`] with its `action`.
const fn with_action(
    id: u16,
    group_id: u8,
    name: &'static str,
    description: &'static str,
    action: &'static str,
) -> StatusCode {
    StatusCode {
        id,
        group_id,
        group_name: status_group(group_id),
        name,
        description,
        action: Some(action),
    }
}

/// A transient row of [`ERRORS`]: another attempt may succeed.
const fn transient(
    id: u16,
    group_id: u8,
    name: &'static str,
    description: &'static str,
) -> ErrorCode {
    ErrorCode {
        id,
        group_id,
        group_name: error_group(group_id),
        name,
        description,
        permanent: false,
    }
}

/// A permanent row of [`ERRORS`].
const fn permanent(
    id: u16,
    group_id: u8,
    name: &'static str,
    description: &'static str,
) -> ErrorCode {
    ErrorCode {
        id,
        group_id,
        group_name: error_group(group_id),
        name,
        description,
        permanent: true,
    }
}

/// The manual's statuses, by id. The spelling is the manual's ("validty"). 0 is in its samples, not in its table.
#[rustfmt::skip]
pub static STATUSES: &[StatusCode] = &[
    row(0, 0, "MESSAGE_ACCEPTED", "Message accepted"),
    row(1, 1, "PENDING_TIME_VIOLATION", "Time window violation"),
    row(2, 3, "DELIVERED_TO_OPERATOR", "Message delivered to operator"),
    row(3, 1, "PENDING_WAITING_DELIVERY", "Message sent, waiting for delivery report"),
    row(4, 2, "UNDELIVERABLE_REJECTED_OPERATOR", "Message rejected by operator"),
    row(5, 3, "DELIVERED_TO_HANDSET", "Message delivered to handset"),
    with_action(6, 5, "REJECTED_NETWORK", "Network is forbidden", "Contact account manager"),
    row(7, 1, "PENDING_ENROUTE", "Message sent to next instance"),
    row(8, 5, "REJECTED_PREFIX_MISSING", "Number prefix missing"),
    row(9, 2, "UNDELIVERABLE_NOT_DELIVERED", "Message sent not delivered"),
    row(10, 5, "REJECTED_DND", "Destination on DND list"),
    row(11, 5, "REJECTED_SOURCE", "Invalid Source address"),
    row(12, 5, "REJECTED_NOT_ENOUGH_CREDIT", "Not enough credits"),
    with_action(13, 5, "REJECTED_SENDER", "By Sender", "Remove sender from blacklist"),
    with_action(14, 5, "REJECTED_DESTINATION", "By Destination", "Remove destination from blacklist"),
    row(15, 4, "EXPIRED_EXPIRED", "Message expired"),
    row(16, 5, "REJECTED_NOT_REACHABLE", "Network not reachable"),
    with_action(17, 5, "REJECTED_PREPAID_PACKAGE_EXPIRED", "Prepaid package expired", "Top-Up your account to extend the validty period"),
    row(18, 5, "REJECTED_DESTINATION_NOT_REGISTERED", "Destination not registered"),
    with_action(19, 5, "REJECTED_ROUTE_NOT_AVAILABLE", "Route not available", "Contact account manager"),
    with_action(20, 5, "REJECTED_FLOODING_FILTER", "Rejected flooding", "STOP SPAMMING"),
    with_action(21, 5, "REJECTED_SYSTEM_ERROR", "System error", "Try again"),
    row(22, 4, "EXPIRED_UNKNOWN", "Unknown Reason"),
    row(23, 5, "REJECTED_DUPLICATE_MESSAGE_ID", "Rejected duplicate message ID"),
    row(24, 5, "REJECTED_INVALID_UDH", "Rejected invalid UDH"),
    row(25, 5, "REJECTED_MESSAGE_TOO_LONG", "Rejected message too long"),
    row(26, 1, "PENDING_ACCEPTED", "Pending Accepted"),
    row(27, 1, "PENDING_APPROVAL", "Pending Approval"),
    row(28, 5, "REJECTED_NOT_SENT", "Rejected Not Sent"),
    row(29, 4, "EXPIRED_DLR_UNKNOWN", "Expired DLR Unknown"),
    row(30, 3, "DELIVERED", "MO forwarded action completed"),
    row(31, 2, "UNDELIVERABLE_NOT_SENT", "Message not sent"),
    with_action(51, 5, "MISSING_TO", "Missing destination", "Check to parameter."),
    with_action(52, 5, "REJECTED_DESTINATION", "Invalid destination address.", "Check to parameter."),
];

/// The manual's GSM errors, by id. The spelling is the manual's ("Ressource", "Realeased").
#[rustfmt::skip]
pub static ERRORS: &[ErrorCode] = &[
    transient(0, 0, "NO_ERROR", "No Error"),
    permanent(1, 1, "EC_UNKNOWN_SUBSCRIBER", "Unknown Subscriber"),
    transient(5, 1, "EC_UNIDENTIFIED_SUBSCRIBER", "Unidentified Subscriber"),
    transient(6, 1, "EC_ABSENT_SUBSCRIBER_SM", "Absent Subscriber"),
    permanent(9, 1, "EC_ILLEGAL_SUBSCRIBER", "Illegal Subscriber"),
    permanent(10, 3, "EC_BEARER_SERVICE_NOT_PROVISIONED", "Bearer Service Not Provisioned"),
    permanent(11, 1, "EC_TELESERVICE_NOT_PROVISIONED", "Teleservice Not Provisioned"),
    permanent(12, 1, "EC_ILLEGAL_EQUIPMENT", "Illegal Equipment"),
    transient(13, 1, "EC_CALL_BARRED", "Call Barred"),
    transient(20, 3, "EC_SS_INCOMPATIBILITY", "SS Incompatibility"),
    transient(21, 1, "EC_FACILITY_NOT_SUPPORTED", "Facility Not Supported"),
    transient(27, 1, "EC_ABSENT_SUBSCRIBER", "Absent Subscriber"),
    transient(31, 1, "EC_SUBSCRIBER_BUSY_FOR_MT_SMS", "Subscriber Busy For Mt SMS"),
    transient(32, 1, "EC_SM_DELIVERY_FAILURE", "SM Delivery Failure"),
    transient(33, 1, "EC_MESSAGE_WAITING_LIST_FULL", "Message Waiting List Full"),
    transient(34, 1, "EC_SYSTEM_FAILURE", "System Failure"),
    transient(35, 1, "EC_DATA_MISSING", "Data Missing"),
    transient(36, 1, "EC_UNEXPECTED_DATA_VALUE", "Unexpected Data Value"),
    permanent(51, 3, "EC_RESOURCE_LIMITATION", "Resource Limitation"),
    transient(71, 3, "EC_UNKNOWN_ALPHABET", "Unknown Alphabet"),
    permanent(72, 1, "EC_USSD_BUSY", "Ussd Busy"),
    transient(255, 1, "EC_UNKNOWN_ERROR", "Unknown Error"),
    transient(256, 1, "EC_SM_DF_MEMORYCAPACITYEXCEEDED", "SM DF Memory Capacity Exceeded"),
    transient(257, 1, "EC_SM_DF_EQUIPMENTPROTOCOLERROR", "SM DF Equipment Protocol Error"),
    transient(258, 1, "EC_SM_DF_EQUIPMENTNOTSM_EQUIPPED", "SM DF Equipment Not SM Equipped"),
    transient(259, 1, "EC_SM_DF_UNKNOWNSERVICECENTRE", "SM DF Unknown Service Centre"),
    transient(260, 1, "EC_SM_DF_SC_CONGESTION", "SM DF Sc Congestion"),
    transient(261, 1, "EC_SM_DF_INVALIDSME_ADDRESS", "SM DF InvalidSME Address"),
    transient(262, 1, "EC_SM_DF_SUBSCRIBERNOTSC_SUBSCRIBER", "SM DF Subscribernotsc Subscriber"),
    transient(500, 1, "EC_PROVIDER_GENERAL_ERROR", "Provider General Error"),
    transient(501, 3, "EC_INVALID_RESPONSE_RECEIVED", "Invalid Response Received"),
    transient(502, 1, "EC_NO_RESPONSE", "No Response"),
    transient(503, 1, "EC_SERVICE_COMPLETION_FAILURE", "Service Completion Failure"),
    transient(504, 1, "EC_UNEXPECTED_RESPONSE_FROM_PEER", "Unexpected Response From Peer"),
    transient(507, 1, "EC_MISTYPED_PARAMETER", "Mistyped Parameter"),
    transient(508, 1, "EC_NOT_SUPPORTED_SERVICE", "Supported Service"),
    transient(509, 1, "EC_DUPLICATED_INVOKE_ID", "Duplicated Invoke Id"),
    permanent(511, 1, "EC_INITIATING_RELEASE", "Initiating Release"),
    transient(1024, 1, "EC_OR_APPCONTEXTNOTSUPPORTED", "App Context Not Supported"),
    transient(1025, 1, "EC_OR_INVALIDDESTINATIONREFERENCE", "Invalid Destination Reference"),
    transient(1026, 1, "EC_OR_INVALIDORIGINATINGREFERENCE", "Invalid Originating Reference"),
    transient(1027, 1, "EC_OR_ENCAPSULATEDAC_NOTSUPPORTED", "Encapsulated AC Not Supported"),
    transient(1028, 1, "EC_OR_TRANSPORTPROTECTIONNOTADEQUATE", "Transport Protection Not Adequate"),
    transient(1029, 1, "EC_OR_NOREASONGIVEN", "No Reason Given"),
    transient(1030, 1, "EC_OR_POTENTIALVERSIONINCOMPATIBILITY", "Potential Version Incompatibility"),
    transient(1031, 1, "EC_OR_REMOTENODENOTREACHABLE", "Remote Node Not Reachable"),
    transient(1152, 1, "EC_NNR_NOTRANSLATIONFORANADDRESSOFSUCHNATURE", "No Translation For An Address Of Such Nature"),
    transient(1153, 1, "EC_NNR_NOTRANSLATIONFORTHISSPECIFICADDRESS", "No Translation For This Specific Address"),
    transient(1154, 1, "EC_NNR_SUBSYSTEMCONGESTION", "Subsystem Congestion"),
    transient(1155, 1, "EC_NNR_SUBSYSTEMFAILURE", "Subsystem Failure"),
    transient(1156, 1, "EC_NNR_UNEQUIPPEDUSER", "Unequipped User"),
    transient(1157, 1, "EC_NNR_MTPFAILURE", "MTP Failure"),
    transient(1158, 1, "EC_NNR_NETWORKCONGESTION", "Network Congestion"),
    transient(1159, 1, "EC_NNR_UNQUALIFIED", "Unqualified"),
    transient(1160, 1, "EC_NNR_ERRORINMESSAGETRANSPORTXUDT", "Error In Message Transport XUDT"),
    transient(1161, 1, "EC_NNR_ERRORINLOCALPROCESSINGXUDT", "Error In Local Processing XUDT"),
    transient(1162, 1, "EC_NNR_DESTINATIONCANNOTPERFORMREASSEMBLYXUDT", "Destination Cannot Perform Reassembly XUDT"),
    transient(1163, 1, "EC_NNR_SCCPFAILURE", "SCCP Failure"),
    transient(1164, 1, "EC_NNR_HOPCOUNTERVIOLATION", "Hop Counter Violation"),
    transient(1165, 1, "EC_NNR_SEGMENTATIONNOTSUPPORTED", "Segmentation Not Supported"),
    transient(1166, 1, "EC_NNR_SEGMENTATIONFAILURE", "Segmentation Failure"),
    transient(1281, 1, "EC_UA_USERSPECIFICREASON", "User Specific Reason"),
    transient(1282, 1, "EC_UA_USERRESOURCELIMITATION", "User Resource Limitation"),
    transient(1283, 1, "EC_UA_RESOURCEUNAVAILABLE", "Resource Unavailable"),
    transient(1284, 1, "EC_UA_APPLICATIONPROCEDURECANCELLATION", "Application Procedure Cancellation"),
    transient(1536, 1, "EC_PA_PROVIDERMALFUNCTION", "Provider Malfunction"),
    transient(1537, 1, "EC_PA_SUPPORTINGDIALOGORTRANSACTIONREALEASED", "Supporting Dialog Or Transaction Realeased"),
    transient(1538, 1, "EC_PA_RESSOURCELIMITATION", "Ressource Limitation"),
    transient(1539, 1, "EC_PA_MAINTENANCEACTIVITY", "Maintenance Activity"),
    transient(1540, 1, "EC_PA_VERSIONINCOMPATIBILITY", "Version Incompatibility"),
    transient(1541, 1, "EC_PA_ABNORMALMAPDIALOG", "Abnormal Map Dialog"),
    transient(1792, 1, "EC_NC_ABNORMALEVENTDETECTEDBYPEER", "Abnormal Event Detected By Peer"),
    transient(1793, 1, "EC_NC_RESPONSEREJECTEDBYPEER", "Response Rejected By Peer"),
    transient(1794, 1, "EC_NC_ABNORMALEVENTRECEIVEDFROMPEER", "Abnormal Event Received From Peer"),
    transient(1795, 1, "EC_NC_MESSAGECANNOTBEDELIVEREDTOPEER", "Message Cannot Be Delivered To Peer"),
    transient(1796, 1, "EC_NC_PROVIDEROUTOFINVOKE", "Provider Out Of Invoke"),
    transient(2048, 3, "EC_TIME_OUT", "Time Out"),
    permanent(2049, 2, "EC_IMSI_BLACKLISTED", "IMSI blacklisted"),
    permanent(2050, 3, "EC_DEST_ADDRESS_BLACKLISTED", "DND blacklisted"),
    transient(2051, 3, "EC_INVALIDMSCADDRESS", "Text blacklisted"),
    permanent(4096, 2, "EC_INVALID_PDU_FORMAT", "Invalid PDU Format"),
    transient(4097, 3, "EC_NOTSUBMITTEDTOGMSC", "Not Submitted To GMSC"),
    permanent(4100, 2, "EC_MESSAGE_CANCELED", "Message canceled"),
    permanent(4101, 2, "EC_VALIDITYEXPIRED", "Validity Expired"),
    permanent(4102, 3, "EC_NOTSUBMITTEDTOSMPPCHANNEL", "Not Submitted To Smpp Channel"),
    permanent(5000, 0, "VOICE_ANSWERED", "Call answered by human"),
    permanent(5001, 0, "VOICE_ANSWERED_MACHINE", "Call answered by machine"),
    permanent(5002, 2, "EC_VOICE_USER_BUSY", "User was busy during call attempt"),
    permanent(5003, 2, "EC_VOICE_NO_ANSWER", "User was notified, but did not answer call"),
    permanent(5004, 2, "EC_VOICE_ERROR_DOWNLOADING_FILE", "File provided for call could not be downloaded"),
    permanent(5005, 2, "EC_VOICE_ERROR_UNSUPPORTED_AUDIO_FORMAT", "Format of file provided for call is not supported"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_complete_and_sorted_by_id() {
        assert_eq!((STATUSES.len(), ERRORS.len()), (34, 91));
        assert!(STATUSES.is_sorted_by(|a, b| a.id < b.id));
        assert!(ERRORS.is_sorted_by(|a, b| a.id < b.id));
        for row in STATUSES {
            assert_eq!(status(row.id), Some(row));
        }
        for row in ERRORS {
            assert_eq!(error(row.id), Some(row));
        }
        assert_eq!((status(32), error(2)), (None, None));
    }

    #[test]
    fn groups_and_flags_add_up_to_the_manuals() {
        let in_group = |group| STATUSES.iter().filter(|row| row.group_id == group).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(in_group), [1, 5, 3, 3, 3, 19]);
        let in_group = |group| ERRORS.iter().filter(|row| row.group_id == group).count();
        assert_eq!([0, 1, 2, 3].map(in_group), [3, 70, 8, 10]);
        assert_eq!(ERRORS.iter().filter(|row| row.permanent).count(), 20);
        // The name of a status begins with the name of its group, with two exceptions in the manual.
        for row in STATUSES
            .iter()
            .filter(|row| row.group_id != 0 && row.id != 51)
        {
            assert!(row.name.starts_with(row.group_name), "{row:?}");
        }
    }

    #[test]
    fn rows_read_as_the_manual_prints_them() {
        let network = status(6).map(|row| (row.group_name, row.name, row.description, row.action));
        assert_eq!(
            network,
            Some((
                "REJECTED",
                "REJECTED_NETWORK",
                "Network is forbidden",
                Some("Contact account manager")
            ))
        );
        let absent =
            error(27).map(|row| (row.group_name, row.name, row.description, row.permanent));
        assert_eq!(
            absent,
            Some((
                "HANDSET_ERRORS",
                "EC_ABSENT_SUBSCRIBER",
                "Absent Subscriber",
                false
            ))
        );
    }
}
