//! The codec of the contract's services: tonic's Protobuf codec with smaller initial buffers.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Initial size of a call's buffers: most messages fit, and buffers grow. tonic's default of 8 KiB for each direction was half
/// of the memory that a call used.
const BUFFER_BYTES: usize = 512;
/// Bytes of a stream that are collected into one frame: tonic's default.
const FRAME_BYTES: usize = 32 * 1024;

/// `build.rs` sets it for every service of the contract.
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
