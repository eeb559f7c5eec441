//! How messages are read and written: as tonic's codec does, with buffers of the size that messages have.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What a call's buffers begin with, in bytes: most messages fit, and buffers grow. tonic's own take 8 KiB for each
/// direction of each call, which made up half of the memory that a call touched.
const BUFFER_BYTES: usize = 512;
/// How much of a stream is gathered into one frame, in bytes; as tonic has it.
const FRAME_BYTES: usize = 32 * 1024;

/// The codec of every service of the contract; `build.rs` names it.
pub struct LeanCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LeanCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LeanCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, FRAME_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, FRAME_BYTES))
    }
}
