//! The ids of the statuses and GSM errors that the simulator chooses by itself, under the manual's names.

pub(crate) const PENDING_TIME_VIOLATION: u16 = 1;
pub(crate) const PENDING_WAITING_DELIVERY: u16 = 3;
pub(crate) const DELIVERED_TO_HANDSET: u16 = 5;
pub(crate) const REJECTED_NETWORK: u16 = 6;
pub(crate) const REJECTED_PREFIX_MISSING: u16 = 8;
pub(crate) const UNDELIVERABLE_NOT_DELIVERED: u16 = 9;
pub(crate) const REJECTED_SOURCE: u16 = 11;
pub(crate) const REJECTED_NOT_ENOUGH_CREDIT: u16 = 12;
pub(crate) const EXPIRED_EXPIRED: u16 = 15;
pub(crate) const REJECTED_FLOODING_FILTER: u16 = 20;
pub(crate) const REJECTED_DUPLICATE_MESSAGE_ID: u16 = 23;
pub(crate) const REJECTED_INVALID_UDH: u16 = 24;
pub(crate) const REJECTED_MESSAGE_TOO_LONG: u16 = 25;
pub(crate) const PENDING_ACCEPTED: u16 = 26;
pub(crate) const UNDELIVERABLE_NOT_SENT: u16 = 31;
pub(crate) const MISSING_TO: u16 = 51;
/// The manual names it REJECTED_DESTINATION, as it does 14.
pub(crate) const INVALID_DESTINATION: u16 = 52;

pub(crate) const NO_ERROR: u16 = 0;
pub(crate) const EC_UNKNOWN_SUBSCRIBER: u16 = 1;
pub(crate) const EC_ABSENT_SUBSCRIBER: u16 = 27;
pub(crate) const EC_MESSAGE_CANCELED: u16 = 4100;
pub(crate) const EC_VALIDITYEXPIRED: u16 = 4101;
