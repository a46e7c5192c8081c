//! Range, Put, DeleteRange, Txn, Compact.

use tonic::{Request, Response, Status};

use super::convert::{self, Answer, status};
use super::{Service, pb};
use crate::contract::{OpResponse, Txn, TxnResponse};

#[tonic::async_trait]
impl pb::kv_server::Kv for Service {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (request, shape) = convert::range(request.into_inner())?;
        let response = self.store.range(request).await.map_err(status)?;
        let header = self.header(response.revision);
        Ok(Response::new(shape.apply(response, header)))
    }

    type RangeStreamStream = tokio_stream::Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("ranges are not streamed here: use Range with a limit"))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let op = convert::put(request.into_inner())?;
        let mut answer = self.store.txn(Txn::new().then(op)).await.map_err(status)?;
        let header = self.header(answer.revision);
        let Some(OpResponse::Put { prev }) = answer.responses.pop() else { return Err(unexpected()) };
        Ok(Response::new(pb::PutResponse { header, prev_kv: prev.map(convert::kv) }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let op = convert::delete(request.into_inner());
        let mut answer = self.store.txn(Txn::new().then(op)).await.map_err(status)?;
        let header = self.header(answer.revision);
        let Some(OpResponse::Delete { deleted, prev }) = answer.responses.pop() else { return Err(unexpected()) };
        let prev_kvs = prev.into_iter().map(convert::kv).collect();
        Ok(Response::new(pb::DeleteRangeResponse { header, deleted: deleted as i64, prev_kvs }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let (txn, answer) = convert::txn(request.into_inner())?;
        let response = self.store.txn(txn).await.map_err(status)?;
        Ok(Response::new(self.answer(response, &answer)?))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        // Durable when answered, whether or not the records' removal is asked to be waited for.
        self.store.compact(request.into_inner().revision).await.map_err(status)?;
        Ok(Response::new(pb::CompactionResponse { header: self.header_now().await? }))
    }
}

impl Service {
    fn answer(&self, response: TxnResponse, answer: &Answer) -> Result<pb::TxnResponse, Status> {
        use pb::response_op::Response;
        let Answer::Txn { success, failure } = answer else { return Err(unexpected()) };
        let answers = if response.succeeded { success } else { failure };
        let header = self.header(response.revision);
        let mut responses = Vec::new();
        for (part, answer) in response.responses.into_iter().zip(answers) {
            let part = match (part, answer) {
                (OpResponse::Put { prev }, Answer::Put) => {
                    Response::ResponsePut(pb::PutResponse { header, prev_kv: prev.map(convert::kv) })
                }
                (OpResponse::Delete { deleted, prev }, Answer::Delete) => {
                    let prev_kvs = prev.into_iter().map(convert::kv).collect();
                    Response::ResponseDeleteRange(pb::DeleteRangeResponse { header, deleted: deleted as i64, prev_kvs })
                }
                (OpResponse::Range(range), Answer::Range(shape)) => Response::ResponseRange(shape.apply(range, header)),
                (OpResponse::Txn(inner), answer) => Response::ResponseTxn(self.answer(inner, answer)?),
                _ => return Err(unexpected()),
            };
            responses.push(pb::ResponseOp { response: Some(part) });
        }
        Ok(pb::TxnResponse { header, succeeded: response.succeeded, responses })
    }
}

fn unexpected() -> Status {
    Status::internal("the store answered something else than was asked")
}
