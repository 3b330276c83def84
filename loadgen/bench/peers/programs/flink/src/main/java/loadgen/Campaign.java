package loadgen;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/** The campaign of an ad, or NULL: a broadcast table in each task's memory, since Flink's file source can't be looked up. */
public class Campaign extends ScalarFunction {
    /** Job parameter: path of a CSV file with the columns ad_id, campaign_id and a header. */
    public static final String FILE = "campaigns";

    private transient Map<StringData, StringData> campaigns;

    @Override
    public void open(FunctionContext context) throws IOException {
        List<String> lines = Files.readAllLines(Path.of(context.getJobParameter(FILE, null)));
        campaigns = new HashMap<>();
        for (String line : lines.subList(1, lines.size())) {
            String[] cells = line.split(",", 2);
            campaigns.put(StringData.fromString(cells[0]), StringData.fromString(cells[1]));
        }
    }

    /** Flink's own strings: nothing is decoded for a look-up. */
    @DataTypeHint(value = "STRING", bridgedTo = StringData.class)
    public StringData eval(@DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData ad) {
        return campaigns.get(ad);
    }
}
