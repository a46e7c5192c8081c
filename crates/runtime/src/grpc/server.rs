//! The runtime's methods as the gRPC services of the protocol, on a Unix socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use cri::archives::archive_service_server::{ArchiveService, ArchiveServiceServer};
use cri::archives::{ImportRequest, ImportResponse, ImportedImage};
use cri::v1;
use cri::v1::image_service_server::{ImageService, ImageServiceServer};
use cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use futures::stream::{self, Stream, StreamExt};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio_stream::wrappers::BroadcastStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::image::layers::set_mode;
use crate::{Error, Result, Runtime};

/// The longest message, as upstream's clients allow.
const MAX_MESSAGE: usize = 16 << 20;
/// How long calls may go on after the daemon was told to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How many things one message of a streamed list holds.
const PER_MESSAGE: usize = 100;

/// Serves a runtime on a socket until `stop` is done; calls that run then are finished.
///
/// # Why
/// Not by tonic's own server: that one ends a call at the client's deadline as cancelled, where clients expect their
/// own account of the deadline.
pub async fn serve(runtime: Runtime, socket: &Path, stop: impl Future<Output = ()>) -> Result<()> {
    let listener = bind(socket)?;
    let routes = Routes::new(
        RuntimeServiceServer::new(runtime.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        ImageServiceServer::new(runtime.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(ArchiveServiceServer::new(Archives(runtime)))
    .prepare();
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((connection, _)) = accepted else {
            // Out of descriptors: others must close theirs first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let server = http2::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(routes.clone());
        let serving = graceful.watch(server.serve_connection(TokioIo::new(connection), service));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::trace!(%error, "a client's connection ended");
            }
        });
    }
    let _ = fs::remove_file(socket);
    // Listeners to events never end by themselves.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// Takes a socket's path: one that nobody serves any more is removed.
fn bind(socket: &Path) -> Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(Error::Unavailable(format!("{} is served by another program: stop it first", socket.display())));
    }
    match fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::File { path: socket.to_owned(), source: e });
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(Error::file(socket))?;
    set_mode(socket, 0o600)?;
    Ok(listener)
}

type Answer<T> = std::result::Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(Status::from)
}

/// A list in messages of bounded size.
fn in_parts<I: Send + 'static, T: Send + 'static>(items: Vec<I>, wrap: fn(Vec<I>) -> T) -> Answer<Streamed<T>> {
    let mut items = items;
    let mut parts = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(PER_MESSAGE));
        parts.push(Ok(wrap(std::mem::replace(&mut items, rest))));
    }
    Ok(Response::new(Box::pin(stream::iter(parts))))
}

fn unsupported<T>(what: &str) -> Answer<T> {
    Err(Error::Unsupported(what.to_owned()).into())
}

/// Writes the methods that only pass on, in the form that `async_trait` gives methods: it does not see into macros.
macro_rules! pass_on {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        $(
            fn $name<'life, 'method>(
                &'life self,
                request: Request<v1::$request>,
            ) -> Pin<Box<dyn Future<Output = Answer<v1::$response>> + Send + 'method>>
            where
                'life: 'method,
                Self: 'method,
            {
                Box::pin(async move { answer(Runtime::$name(self, request.into_inner()).await) })
            }
        )*
    };
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    type StreamPodSandboxesStream = Streamed<v1::StreamPodSandboxesResponse>;
    type StreamContainersStream = Streamed<v1::StreamContainersResponse>;
    type StreamContainerStatsStream = Streamed<v1::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Streamed<v1::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Streamed<v1::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Streamed<v1::ContainerEventResponse>;

    pass_on! {
        version: VersionRequest => VersionResponse;
        run_pod_sandbox: RunPodSandboxRequest => RunPodSandboxResponse;
        stop_pod_sandbox: StopPodSandboxRequest => StopPodSandboxResponse;
        remove_pod_sandbox: RemovePodSandboxRequest => RemovePodSandboxResponse;
        pod_sandbox_status: PodSandboxStatusRequest => PodSandboxStatusResponse;
        list_pod_sandbox: ListPodSandboxRequest => ListPodSandboxResponse;
        create_container: CreateContainerRequest => CreateContainerResponse;
        start_container: StartContainerRequest => StartContainerResponse;
        stop_container: StopContainerRequest => StopContainerResponse;
        remove_container: RemoveContainerRequest => RemoveContainerResponse;
        list_containers: ListContainersRequest => ListContainersResponse;
        container_status: ContainerStatusRequest => ContainerStatusResponse;
        update_container_resources: UpdateContainerResourcesRequest => UpdateContainerResourcesResponse;
        reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse;
        exec_sync: ExecSyncRequest => ExecSyncResponse;
        exec: ExecRequest => ExecResponse;
        attach: AttachRequest => AttachResponse;
        port_forward: PortForwardRequest => PortForwardResponse;
        container_stats: ContainerStatsRequest => ContainerStatsResponse;
        list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse;
        pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse;
        list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse;
        update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse;
        status: StatusRequest => StatusResponse;
        list_metric_descriptors: ListMetricDescriptorsRequest => ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest => ListPodSandboxMetricsResponse;
        runtime_config: RuntimeConfigRequest => RuntimeConfigResponse;
        update_pod_sandbox_resources: UpdatePodSandboxResourcesRequest => UpdatePodSandboxResourcesResponse;
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        unsupported("checkpointing containers")
    }

    async fn checkpoint_pod(&self, _: Request<v1::CheckpointPodRequest>) -> Answer<v1::CheckpointPodResponse> {
        unsupported("checkpointing pods")
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Answer<v1::RestorePodResponse> {
        unsupported("restoring pods")
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let all =
            Runtime::list_pod_sandbox(self, v1::ListPodSandboxRequest { filter: request.into_inner().filter }).await?;
        in_parts(all.items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes })
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let all =
            Runtime::list_containers(self, v1::ListContainersRequest { filter: request.into_inner().filter }).await?;
        in_parts(all.containers, |containers| v1::StreamContainersResponse { containers })
    }

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let filter = request.into_inner().filter;
        let all = Runtime::list_container_stats(self, v1::ListContainerStatsRequest { filter }).await?;
        in_parts(all.stats, |container_stats| v1::StreamContainerStatsResponse { container_stats })
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let filter = request.into_inner().filter;
        let all = Runtime::list_pod_sandbox_stats(self, v1::ListPodSandboxStatsRequest { filter }).await?;
        in_parts(all.stats, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats })
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let all = Runtime::list_pod_sandbox_metrics(self, v1::ListPodSandboxMetricsRequest {}).await?;
        in_parts(all.pod_metrics, |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics })
    }

    async fn get_container_events(&self, _: Request<v1::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.events()).map(|event| {
            // Better to end than to skip: the listener then lists again.
            event.map_err(|_| Status::data_loss("the listener was too slow and missed events: list again"))
        });
        Ok(Response::new(Box::pin(events)))
    }
}

#[tonic::async_trait]
impl ImageService for Runtime {
    type StreamImagesStream = Streamed<v1::StreamImagesResponse>;

    pass_on! {
        list_images: ListImagesRequest => ListImagesResponse;
        image_status: ImageStatusRequest => ImageStatusResponse;
        pull_image: PullImageRequest => PullImageResponse;
        remove_image: RemoveImageRequest => RemoveImageResponse;
        image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse;
    }

    async fn stream_images(&self, request: Request<v1::StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        let all = Runtime::list_images(self, v1::ListImagesRequest { filter: request.into_inner().filter }).await?;
        in_parts(all.images, |images| v1::StreamImagesResponse { images })
    }
}

/// Takes image archives.
struct Archives(Runtime);

#[tonic::async_trait]
impl ArchiveService for Archives {
    async fn import(&self, request: Request<tonic::Streaming<ImportRequest>>) -> Answer<ImportResponse> {
        let mut parts = request.into_inner();
        let path = self.0.config().root.join(format!("import-{}", &crate::record::new_id()?[..16]));
        let received = receive(&mut parts, &path).await;
        let imported = match received {
            Ok(pinned) => self.0.import_archive(path.clone(), pinned).await,
            Err(error) => Err(error),
        };
        let _ = fs::remove_file(&path);
        let images = imported?.into_iter().map(|named| ImportedImage {
            id: named.image.id.to_string(),
            names: named.tags.into_iter().chain(named.digests).collect(),
        });
        Ok(Response::new(ImportResponse { images: images.collect() }))
    }
}

/// Writes an archive that comes in parts; says whether its images are to be pinned.
async fn receive(parts: &mut tonic::Streaming<ImportRequest>, path: &Path) -> Result<bool> {
    use tokio::io::AsyncWriteExt;
    let mut file = tokio::fs::File::create(path).await.map_err(Error::file(path))?;
    let mut pinned = false;
    let broken = |e: Status| Error::Invalid(format!("the archive did not arrive whole: {}", e.message()));
    while let Some(part) = parts.message().await.map_err(broken)? {
        pinned |= part.pinned;
        file.write_all(&part.part).await.map_err(Error::file(path))?;
    }
    file.flush().await.map_err(Error::file(path))?;
    Ok(pinned)
}
