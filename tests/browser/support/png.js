// Makes a PNG smaller without changing a pixel: a picture of a page has large areas of one colour, which compress better
// unfiltered.

import { crc32, deflateSync, inflateSync } from "node:zlib";

const SIGNATURE_BYTES = 8;
const BYTES_PER_PIXEL = { 2: 3, 6: 4 };

function* chunks(png) {
  for (let at = SIGNATURE_BYTES; at < png.length;) {
    const length = png.readUInt32BE(at);
    yield [png.toString("latin1", at + 4, at + 8), png.subarray(at + 8, at + 8 + length)];
    at += length + 12;
  }
}

function chunk(type, data) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length, 0);
  head.write(type, 4, "latin1");
  const end = Buffer.alloc(4);
  end.writeUInt32BE(crc32(Buffer.concat([head.subarray(4), data])), 0);
  return Buffer.concat([head, data, end]);
}

// The predictor of the PNG specification for filter type 4.
function paeth(left, above, aboveLeft) {
  const estimate = left + above - aboveLeft;
  const distances = [left, above, aboveLeft].map((value) => Math.abs(estimate - value));
  if (distances[0] <= distances[1] && distances[0] <= distances[2]) return left;
  return distances[1] <= distances[2] ? above : aboveLeft;
}

/** The same picture, whose lines have no filter. */
export function smaller(png) {
  const parts = [...chunks(png)];
  const header = parts.find(([type]) => type === "IHDR")[1];
  const step = BYTES_PER_PIXEL[header[9]];
  if (header[8] !== 8 || !step || header[12] !== 0) return png;
  const width = header.readUInt32BE(0) * step;
  const height = header.readUInt32BE(4);
  const lines = inflateSync(Buffer.concat(parts.filter(([type]) => type === "IDAT").map(([, data]) => data)));
  let above = Buffer.alloc(width);
  for (let y = 0; y < height; y += 1) {
    const start = y * (width + 1);
    const filter = lines[start];
    const line = lines.subarray(start + 1, start + 1 + width);
    for (let x = 0; x < width; x += 1) {
      const left = x >= step ? line[x - step] : 0;
      const aboveLeft = x >= step ? above[x - step] : 0;
      const predicted = [0, left, above[x], (left + above[x]) >> 1, filter === 4 ? paeth(left, above[x], aboveLeft) : 0][filter];
      line[x] = (line[x] + predicted) & 255;
    }
    lines[start] = 0;
    above = line;
  }
  const data = deflateSync(lines, { level: 9, memLevel: 9 });
  const made = Buffer.concat([
    png.subarray(0, SIGNATURE_BYTES),
    chunk("IHDR", header),
    chunk("IDAT", data),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  return made.length < png.length ? made : png;
}
