// The codecs that kafkajs leaves to packages; these need no compiler and no download.
'use strict';
const { CompressionTypes, CompressionCodecs } = require('kafkajs');
const lz4 = require('lz4js');
const { ZstdCodec } = require('zstd-codec');

const writeOnly = async () => { throw new Error('this suite reads with another client'); };

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');

// lz4js says "blocks depend on each other", which Java refuses to read, although it writes one block of up to 4 MiB and that
// depends on nothing: say so in the frame's flags, whose checksum is the third byte.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => {
    if (encoder.buffer.length > 4 << 20) throw new Error('more than one LZ4 block');
    const frame = Buffer.from(lz4.compress(encoder.buffer));
    Buffer.from([0x60, 0x70, 0x73]).copy(frame, 4);
    return frame;
  },
  decompress: writeOnly,
});

const zstd = new Promise(resolve => ZstdCodec.run(module => resolve(new module.Simple())));
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: writeOnly,
});

exports.types = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD };
