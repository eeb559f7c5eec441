//! The table of endpoints (docs/INFOBIP_API.md#endpoints): maps paths to endpoints and their allowed methods.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::http::send::SendVariant;

#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Send {
        variant: SendVariant,
        /// Whether the content is octets; else it is text.
        binary: bool,
    },
    SendQuery,
    Reports,
    Logs,
    Inbox,
    InboxLogs,
    Lookup,
    LookupNotify,
    Bulks,
    BulkStatus,
    Preview,
    Conversion(String),
    Balance,
    OauthToken,
    Session,
    ShortUrl(String),
}

impl Endpoint {
    fn send(variant: SendVariant, binary: bool) -> Self {
        Self::Send { variant, binary }
    }

    /// Finds the endpoint of a path without format suffix; `None` if the path is unknown (404).
    pub fn for_path(path: &str) -> Option<Self> {
        Some(match path.trim_end_matches('/') {
            "/sms/1/text/single" => Self::send(SendVariant::Single, false),
            "/sms/1/text/multi" => Self::send(SendVariant::Multi, false),
            "/sms/1/text/advanced" => Self::send(SendVariant::Advanced, false),
            "/sms/1/binary/single" => Self::send(SendVariant::Single, true),
            "/sms/1/binary/multi" => Self::send(SendVariant::Multi, true),
            "/sms/1/binary/advanced" => Self::send(SendVariant::Advanced, true),
            "/sms/1/text/query" => Self::SendQuery,
            "/sms/1/reports" => Self::Reports,
            "/sms/1/logs" => Self::Logs,
            "/sms/1/inbox/reports" => Self::Inbox,
            "/sms/1/inbox/logs" => Self::InboxLogs,
            "/number/1/query" => Self::Lookup,
            "/number/1/notify" => Self::LookupNotify,
            "/sms/1/bulks" => Self::Bulks,
            "/sms/1/bulks/status" => Self::BulkStatus,
            "/sms/1/preview" => Self::Preview,
            "/account/1/balance" => Self::Balance,
            "/auth/1/oauth2/token" => Self::OauthToken,
            "/auth/1/session" => Self::Session,
            other => match other.strip_prefix("/ct/1/log/end/") {
                Some(id) if !id.is_empty() && !id.contains('/') => {
                    Self::Conversion(percent_decode_str(id).decode_utf8_lossy().into_owned())
                }
                _ if other.split('/').count() == 3 => Self::ShortUrl(other.to_owned()),
                _ => return None,
            },
        })
    }

    pub fn allows(&self, method: &Method) -> bool {
        match self {
            Self::SendQuery
            | Self::Reports
            | Self::Logs
            | Self::Inbox
            | Self::InboxLogs
            | Self::Balance
            | Self::ShortUrl(_) => *method == Method::GET,
            Self::Bulks | Self::BulkStatus => *method == Method::GET || *method == Method::PUT,
            _ => *method == Method::POST,
        }
    }

    /// Whether the `Authorization` header is not required: requests to the query interface and the token endpoints have
    /// credentials in the query or the body, and short links are public.
    pub fn skips_header_authentication(&self) -> bool {
        matches!(
            self,
            Self::SendQuery | Self::OauthToken | Self::Session | Self::ShortUrl(_)
        )
    }
}
