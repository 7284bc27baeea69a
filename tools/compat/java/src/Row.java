import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** One record of the shared data; its text form is described in lib/python/dataset.py. */
record Row(int partition, long offset, long timestamp, byte[] key, byte[] value, List<Header> headers) {
    static final long NO_OFFSET = -1;
    static final Comparator<Row> ORDER = Comparator.comparingInt(Row::partition).thenComparingLong(Row::offset);

    static Row of(ConsumerRecord<byte[], byte[]> r) {
        return new Row(r.partition(), r.offset(), r.timestamp(), r.key(), r.value(), List.of(r.headers().toArray()));
    }

    static List<Row> load(String path) throws IOException {
        List<Row> rows = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(path))) {
            String[] column = line.split("\t", -1);
            List<Header> headers = new ArrayList<>();
            for (String pair : column[4].split(",")) {
                if (pair.isEmpty()) continue;
                String[] part = pair.split(":", -1);
                headers.add(new RecordHeader(new String(untext(part[0]), StandardCharsets.UTF_8), untext(part[1])));
            }
            rows.add(new Row(Integer.parseInt(column[0]), NO_OFFSET, Long.parseLong(column[1]), untext(column[2]), untext(column[3]), headers));
        }
        return rows;
    }

    /** The same rows with the offsets that an empty topic gives them, ordered by partition and offset. */
    static List<Row> expected(List<Row> rows) {
        Map<Integer, Long> ends = new HashMap<>();
        List<Row> out = new ArrayList<>();
        for (Row r : rows) {
            long offset = ends.merge(r.partition, 1L, Long::sum) - 1;
            out.add(new Row(r.partition, offset, r.timestamp, r.key, r.value, r.headers));
        }
        out.sort(ORDER);
        return out;
    }

    ProducerRecord<byte[], byte[]> toProduce(String topic) {
        return new ProducerRecord<>(topic, partition, timestamp, key, value, headers);
    }

    String line() {
        List<String> pairs = new ArrayList<>();
        for (Header h : headers) pairs.add(text(h.key().getBytes(StandardCharsets.UTF_8)) + ":" + text(h.value()));
        return partition + "\t" + offset + "\t" + timestamp + "\t" + text(key) + "\t" + text(value) + "\t" + String.join(",", pairs);
    }

    private static String text(byte[] data) {
        return data == null ? "~" : HexFormat.of().formatHex(data);
    }

    private static byte[] untext(String word) {
        return word.equals("~") ? null : HexFormat.of().parseHex(word);
    }
}
