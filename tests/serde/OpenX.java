import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hive.serde2.SerDeUtils;
import org.apache.hadoop.io.Text;
import org.openx.data.jsonserde.JsonSerDe;

/** Reads lines of JSON with the OpenX SerDe and the table's properties; writes {"row": …} or {"error": …} for each. */
public class OpenX {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        try (Reader in = new InputStreamReader(new FileInputStream(arguments[0]), StandardCharsets.UTF_8)) {
            properties.load(in);
        }
        JsonSerDe serde = new JsonSerDe();
        serde.initialize(new Configuration(false), properties);
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            try {
                Object row = serde.deserialize(new Text(line));
                out.println("{\"row\":" + SerDeUtils.getJSONString(row, serde.getObjectInspector()) + "}");
            } catch (Exception e) {
                String said = (e.getClass().getSimpleName() + ": " + e.getMessage()).replace("\n", " ");
                out.println("{\"error\":\"" + said.replace("\\", "\\\\").replace("\"", "\\\"") + "\"}");
            }
        }
    }
}
