//! A gRPC server with scripted responses (errors, broken streams, pages) that a real bridge would not return on demand. It
//! records its requests.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use smsbridge::proto::v1::{self, *};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

type Answer = Result<Value, Status>;

/// Stops when dropped.
pub struct ScriptedBridge {
    pub address: String,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    answers: Mutex<HashMap<&'static str, VecDeque<Answer>>>,
    asked: Mutex<Vec<Asked>>,
    most_unanswered: Mutex<usize>,
    break_after: Mutex<Option<usize>>,
    answer_from: Mutex<usize>,
}

#[derive(Clone)]
pub struct Asked {
    pub method: &'static str,
    pub request: Value,
    pub authorization: Option<String>,
    pub has_deadline: bool,
}

impl ScriptedBridge {
    pub async fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn listen(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let service = Service(Arc::clone(&state));
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(sms_service_server::SmsServiceServer::new(service.clone()))
                .add_service(report_service_server::ReportServiceServer::new(
                    service.clone(),
                ))
                .add_service(inbox_service_server::InboxServiceServer::new(
                    service.clone(),
                ))
                .add_service(lookup_service_server::LookupServiceServer::new(
                    service.clone(),
                ))
                .add_service(event_service_server::EventServiceServer::new(
                    service.clone(),
                ))
                .add_service(admin_service_server::AdminServiceServer::new(
                    service.clone(),
                ))
                .add_service(account_service_server::AccountServiceServer::new(
                    service.clone(),
                ))
                .add_service(reference_service_server::ReferenceServiceServer::new(
                    service,
                ))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// Adds the next response of a method, as proto JSON; for a server stream, a list of messages. Without one: INTERNAL.
    pub fn answer(&self, method: &'static str, answer: Value) -> &Self {
        self.push(method, Ok(answer))
    }

    /// Adds an error as the next response of a method.
    pub fn refuse(&self, method: &'static str, status: Status) -> &Self {
        self.push(method, Err(status))
    }

    fn push(&self, method: &'static str, answer: Answer) -> &Self {
        let mut answers = self.state.answers.lock().unwrap();
        answers.entry(method).or_default().push_back(answer);
        drop(answers);
        self
    }

    /// `StreamSms` breaks with UNAVAILABLE after this number of responses.
    pub fn break_stream_after(&self, answers: usize) {
        *self.state.break_after.lock().unwrap() = Some(answers);
    }

    /// `StreamSms` sends its first response when this number of requests has arrived, or no more will.
    pub fn answer_stream_from(&self, requests: usize) {
        *self.state.answer_from.lock().unwrap() = requests;
    }

    /// The calls of a method, in order.
    pub fn asked(&self, method: &str) -> Vec<Asked> {
        let asked = self.state.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.method == method)
            .cloned()
            .collect()
    }

    /// The only call of a method.
    #[track_caller]
    pub fn asked_once(&self, method: &str) -> Value {
        let asked = self.asked(method);
        assert_eq!(asked.len(), 1, "{method} was called once");
        asked[0].request.clone()
    }

    /// Maximum number of messages of a `StreamSms` that were unanswered at the same time.
    pub fn most_unanswered(&self) -> usize {
        *self.state.most_unanswered.lock().unwrap()
    }
}

impl Drop for ScriptedBridge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

impl Service {
    fn note<Q: Serialize>(&self, method: &'static str, request: &Request<Q>) {
        let header = |name: &str| {
            let value = request.metadata().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        self.0.asked.lock().unwrap().push(Asked {
            method,
            request: serde_json::to_value(request.get_ref()).unwrap(),
            authorization: header("authorization"),
            has_deadline: header("grpc-timeout").is_some(),
        });
    }

    fn next(&self, method: &'static str) -> Answer {
        let mut answers = self.0.answers.lock().unwrap();
        answers
            .get_mut(method)
            .and_then(VecDeque::pop_front)
            .unwrap_or_else(|| Err(Status::internal(format!("no answer for {method}"))))
    }

    fn unary<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &Request<Q>,
    ) -> Result<Response<A>, Status> {
        self.note(method, request);
        let answer = self.next(method)?;
        Ok(Response::new(serde_json::from_value(answer).unwrap()))
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl sms_service_server::SmsService for Service {
    type StreamSmsStream = BoxStream<StreamSmsResponse>;

    async fn send_sms(
        &self,
        request: Request<SendSmsRequest>,
    ) -> Result<Response<SendSmsResponse>, Status> {
        self.unary("send_sms", &request)
    }

    async fn send_sms_bulk(
        &self,
        request: Request<SendSmsBulkRequest>,
    ) -> Result<Response<SendSmsBulkResponse>, Status> {
        self.unary("send_sms_bulk", &request)
    }

    /// Rejects numbers that begin with 0 (finally) or 99 (retryable), does not know the outcome of those that begin with 98, and
    /// accepts the others, in the order of arrival, and slowly, so that the bound of the caller on
    /// messages in flight takes effect.
    async fn stream_sms(
        &self,
        request: Request<Streaming<StreamSmsRequest>>,
    ) -> Result<Response<Self::StreamSmsStream>, Status> {
        let (answers, stream) = mpsc::channel(1);
        let mut requests = request.into_inner();
        let service = self.clone();
        let break_after = *self.0.break_after.lock().unwrap();
        let answer_from = *self.0.answer_from.lock().unwrap();
        tokio::spawn(async move {
            let mut unanswered = VecDeque::new();
            let mut answered = 0;
            let mut open = true;
            while open || !unanswered.is_empty() {
                match tokio::time::timeout(Duration::from_millis(20), requests.next()).await {
                    Ok(Some(request)) => {
                        let request = request.unwrap();
                        service.note("stream_sms", &Request::new(request.clone()));
                        unanswered.push_back(request);
                        let mut most = service.0.most_unanswered.lock().unwrap();
                        *most = (*most).max(unanswered.len());
                        continue;
                    }
                    Ok(None) => open = false,
                    Err(_) => {}
                }
                if open && answered + unanswered.len() < answer_from {
                    continue;
                }
                if break_after == Some(answered) {
                    let _ = answers.send(Err(Status::unavailable("going away"))).await;
                    return;
                }
                if let Some(request) = unanswered.pop_front() {
                    answered += 1;
                    let _ = answers.send(Ok(stream_answer(request))).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list_sms_logs(
        &self,
        request: Request<ListSmsLogsRequest>,
    ) -> Result<Response<ListSmsLogsResponse>, Status> {
        self.unary("list_sms_logs", &request)
    }

    async fn get_message(
        &self,
        request: Request<GetMessageRequest>,
    ) -> Result<Response<GetMessageResponse>, Status> {
        self.unary("get_message", &request)
    }

    async fn preview_sms(
        &self,
        request: Request<PreviewSmsRequest>,
    ) -> Result<Response<PreviewSmsResponse>, Status> {
        self.unary("preview_sms", &request)
    }

    async fn get_bulk(
        &self,
        request: Request<GetBulkRequest>,
    ) -> Result<Response<GetBulkResponse>, Status> {
        self.unary("get_bulk", &request)
    }

    async fn reschedule_bulk(
        &self,
        request: Request<RescheduleBulkRequest>,
    ) -> Result<Response<RescheduleBulkResponse>, Status> {
        self.unary("reschedule_bulk", &request)
    }

    async fn get_bulk_status(
        &self,
        request: Request<GetBulkStatusRequest>,
    ) -> Result<Response<GetBulkStatusResponse>, Status> {
        self.unary("get_bulk_status", &request)
    }

    async fn update_bulk_status(
        &self,
        request: Request<UpdateBulkStatusRequest>,
    ) -> Result<Response<UpdateBulkStatusResponse>, Status> {
        self.unary("update_bulk_status", &request)
    }

    async fn confirm_conversion(
        &self,
        request: Request<ConfirmConversionRequest>,
    ) -> Result<Response<ConfirmConversionResponse>, Status> {
        self.unary("confirm_conversion", &request)
    }
}

#[tonic::async_trait]
impl report_service_server::ReportService for Service {
    async fn pull_delivery_reports(
        &self,
        request: Request<PullDeliveryReportsRequest>,
    ) -> Result<Response<PullDeliveryReportsResponse>, Status> {
        self.unary("pull_delivery_reports", &request)
    }
}

#[tonic::async_trait]
impl inbox_service_server::InboxService for Service {
    async fn pull_received_messages(
        &self,
        request: Request<PullReceivedMessagesRequest>,
    ) -> Result<Response<PullReceivedMessagesResponse>, Status> {
        self.unary("pull_received_messages", &request)
    }

    async fn list_received_messages(
        &self,
        request: Request<ListReceivedMessagesRequest>,
    ) -> Result<Response<ListReceivedMessagesResponse>, Status> {
        self.unary("list_received_messages", &request)
    }
}

#[tonic::async_trait]
impl account_service_server::AccountService for Service {
    async fn get_balance(
        &self,
        request: Request<GetBalanceRequest>,
    ) -> Result<Response<GetBalanceResponse>, Status> {
        self.unary("get_balance", &request)
    }
}

#[tonic::async_trait]
impl reference_service_server::ReferenceService for Service {
    async fn list_statuses(
        &self,
        request: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        self.unary("list_statuses", &request)
    }

    async fn list_errors(
        &self,
        request: Request<ListErrorsRequest>,
    ) -> Result<Response<ListErrorsResponse>, Status> {
        self.unary("list_errors", &request)
    }
}

#[tonic::async_trait]
impl lookup_service_server::LookupService for Service {
    async fn lookup_numbers(
        &self,
        request: Request<LookupNumbersRequest>,
    ) -> Result<Response<LookupNumbersResponse>, Status> {
        self.unary("lookup_numbers", &request)
    }

    async fn request_number_lookup(
        &self,
        request: Request<RequestNumberLookupRequest>,
    ) -> Result<Response<RequestNumberLookupResponse>, Status> {
        self.unary("request_number_lookup", &request)
    }
}

#[tonic::async_trait]
impl admin_service_server::AdminService for Service {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        self.unary("list_dead_letters", &request)
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<GetDeadLetterResponse>, Status> {
        self.unary("get_dead_letter", &request)
    }

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<ReplayDeadLettersResponse>, Status> {
        self.unary("replay_dead_letters", &request)
    }

    async fn discard_dead_letters(
        &self,
        request: Request<DiscardDeadLettersRequest>,
    ) -> Result<Response<DiscardDeadLettersResponse>, Status> {
        self.unary("discard_dead_letters", &request)
    }

    async fn list_quarantined(
        &self,
        request: Request<ListQuarantinedRequest>,
    ) -> Result<Response<ListQuarantinedResponse>, Status> {
        self.unary("list_quarantined", &request)
    }

    async fn get_quarantined(
        &self,
        request: Request<GetQuarantinedRequest>,
    ) -> Result<Response<GetQuarantinedResponse>, Status> {
        self.unary("get_quarantined", &request)
    }

    async fn replay_quarantined(
        &self,
        request: Request<ReplayQuarantinedRequest>,
    ) -> Result<Response<ReplayQuarantinedResponse>, Status> {
        self.unary("replay_quarantined", &request)
    }

    async fn discard_quarantined(
        &self,
        request: Request<DiscardQuarantinedRequest>,
    ) -> Result<Response<DiscardQuarantinedResponse>, Status> {
        self.unary("discard_quarantined", &request)
    }

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<ReconcileResponse>, Status> {
        self.unary("reconcile", &request)
    }
}

#[tonic::async_trait]
impl event_service_server::EventService for Service {
    type StreamEventsStream = BoxStream<StreamEventsResponse>;
    type SubscribeStream = BoxStream<SubscribeResponse>;

    /// Sends the scripted list. `{"error": "..."}` as its last element breaks the stream.
    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        self.note("stream_events", &request);
        let answer = self.next("stream_events")?;
        let messages: Vec<_> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|message| match message.get("error") {
                Some(error) => Err(Status::unavailable(error.as_str().unwrap())),
                None => Ok(StreamEventsResponse {
                    event: Some(serde_json::from_value(message.clone()).unwrap()),
                }),
            })
            .collect();
        Ok(Response::new(Box::pin(stream::iter(messages))))
    }

    async fn subscribe(
        &self,
        _request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not recorded"))
    }
}

fn stream_answer(request: StreamSmsRequest) -> StreamSmsResponse {
    let asked = request.request.unwrap();
    let to = &asked.message.as_ref().unwrap().destinations[0].to;
    let result = if to.starts_with('0') {
        json!({
            "to": to, "messageId": asked.request_id, "outcome": "OUTCOME_REJECTED",
            "status": {"id": 52, "name": "REJECTED_DESTINATION"},
        })
    } else if to.starts_with("99") {
        json!({
            "to": to, "messageId": asked.request_id, "outcome": "OUTCOME_REJECTED",
            "refusal": {"reason": "API_UNAVAILABLE", "detail": "the API is down", "retryable": true},
        })
    } else if to.starts_with("98") {
        json!({"to": to, "messageId": asked.request_id, "outcome": "OUTCOME_UNKNOWN"})
    } else {
        json!({"to": to, "messageId": asked.request_id, "outcome": "OUTCOME_ACCEPTED"})
    };
    StreamSmsResponse {
        correlation: request.correlation,
        results: vec![serde_json::from_value::<v1::SendResult>(result).unwrap()],
    }
}
