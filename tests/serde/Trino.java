import io.trino.hive.formats.line.Column;
import io.trino.hive.formats.line.LineBuffer;
import io.trino.hive.formats.line.LineDeserializer;
import io.trino.hive.formats.line.openxjson.OpenXJsonDeserializerFactory;
import io.trino.spi.PageBuilder;
import io.trino.spi.type.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;

/** As OpenX.java, with Trino's reader. */
public class Trino {
    static final TypeOperators OPERATORS = new TypeOperators();

    static List<String> split(String text, char at) {
        List<String> parts = new ArrayList<>(List.of(""));
        int depth = 0;
        for (char c : text.toCharArray()) {
            depth += c == '<' ? 1 : c == '>' ? -1 : 0;
            if (c == at && depth == 0) {
                parts.add("");
            } else {
                parts.set(parts.size() - 1, parts.get(parts.size() - 1) + c);
            }
        }
        return parts;
    }

    static Type type(String hive) {
        int open = hive.indexOf('<');
        String inner = open < 0 ? "" : hive.substring(open + 1, hive.length() - 1);
        return switch (open < 0 ? hive : hive.substring(0, open)) {
            case "string" -> VarcharType.VARCHAR;
            case "bigint" -> BigintType.BIGINT;
            case "double" -> DoubleType.DOUBLE;
            case "boolean" -> BooleanType.BOOLEAN;
            case "array" -> new ArrayType(type(inner));
            case "map" -> new MapType(type(split(inner, ',').get(0)), type(split(inner, ',').get(1)), OPERATORS);
            case "struct" -> RowType.from(split(inner, ',').stream().map(Trino::field).toList());
            default -> throw new IllegalArgumentException(hive);
        };
    }

    static RowType.Field field(String named) {
        int colon = named.indexOf(':');
        return RowType.field(named.substring(0, colon), type(named.substring(colon + 1)));
    }

    static String json(Type type, Object value) {
        if (value == null) {
            return "null";
        }
        if (type instanceof RowType row) {
            StringJoiner out = new StringJoiner(",", "{", "}");
            Iterator<?> values = ((List<?>) value).iterator();
            row.getFields().forEach(f -> out.add(quote(f.getName().get()) + ":" + json(f.getType(), values.next())));
            return out.toString();
        }
        if (type instanceof ArrayType array) {
            StringJoiner out = new StringJoiner(",", "[", "]");
            ((List<?>) value).forEach(each -> out.add(json(array.getElementType(), each)));
            return out.toString();
        }
        if (type instanceof MapType map) {
            StringJoiner out = new StringJoiner(",", "{", "}");
            ((Map<?, ?>) value).forEach((k, v) -> out.add(quote(k.toString()) + ":" + json(map.getValueType(), v)));
            return out.toString();
        }
        return value instanceof String text ? quote(text) : value.toString();
    }

    static String quote(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            out.append(c < ' ' || c == '"' || c == '\\' ? "\\u%04x".formatted((int) c) : String.valueOf(c));
        }
        return out.append('"').toString();
    }

    public static void main(String[] arguments) throws Exception {
        Properties given = new Properties();
        try (Reader in = new FileReader(arguments[0], StandardCharsets.UTF_8)) {
            given.load(in);
        }
        Map<String, String> properties = new HashMap<>();
        given.forEach((key, value) -> properties.put((String) key, (String) value));
        String[] names = given.getProperty("columns").split(",");
        List<Type> types = split(given.getProperty("columns.types"), ':').stream().map(Trino::type).toList();
        List<Column> columns = new ArrayList<>();
        for (int i = 0; i < names.length; i++) {
            columns.add(new Column(names[i], types.get(i), i));
        }
        LineDeserializer reader = new OpenXJsonDeserializerFactory().create(columns, properties);
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            try {
                byte[] bytes = line.getBytes(StandardCharsets.UTF_8);
                LineBuffer buffer = new LineBuffer(1, 1 << 24);
                buffer.write(bytes, 0, bytes.length);
                PageBuilder page = new PageBuilder(types);
                reader.deserialize(buffer, page);
                var built = page.build();
                StringJoiner row = new StringJoiner(",", "{", "}");
                for (int i = 0; i < names.length; i++) {
                    row.add(quote(names[i]) + ":" + json(types.get(i), types.get(i).getObjectValue(null, built.getBlock(i), 0)));
                }
                out.println("{\"row\":" + row + "}");
            } catch (Exception e) {
                out.println("{\"error\":" + quote(e.getClass().getSimpleName() + ": " + e.getMessage()) + "}");
            }
        }
    }
}
