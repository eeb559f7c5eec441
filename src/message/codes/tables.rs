//! The manual's tables of status and error codes ("Response codes"; docs/INFOBIP_API.md), row by row.
//!
//! Invariant: sorted by id, because [`super`] finds rows by binary search.

use super::{ErrorCode, ErrorGroup, ErrorGroupCode, Group, StatusCode, StatusGroupCode};

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
pub(super) static STATUS_GROUPS: [StatusGroupCode; 6] = [
    group_row(0, "ACCEPTED", "Message is accepted.", Group::Accepted),
    group_row(1, "PENDING", "Message is in pending status.", Group::Pending),
    group_row(2, "UNDELIVERABLE", "Message is undeliverable.", Group::Undeliverable),
    group_row(3, "DELIVERED", "Message is delivered.", Group::Delivered),
    group_row(4, "EXPIRED", "Message is expired.", Group::Expired),
    group_row(5, "REJECTED", "Message is rejected.", Group::Rejected),
];

#[rustfmt::skip]
pub(super) static ERROR_GROUPS: [ErrorGroupCode; 4] = [
    error_group_row(0, "OK", "No error.", ErrorGroup::Ok),
    error_group_row(1, "HANDSET_ERRORS", "Handset error occurred.", ErrorGroup::Handset),
    error_group_row(2, "USER_ERRORS", "User error occurred.", ErrorGroup::User),
    error_group_row(3, "OPERATOR_ERRORS", "Operator error occurred.", ErrorGroup::Operator),
];

/// Sorted by id. The spelling is the manual's ("validty"). Id 0 is in its samples, not in its table.
#[rustfmt::skip]
pub(super) static STATUSES: [StatusCode; 34] = [
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
pub(super) static ERRORS: [ErrorCode; 91] = [
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
